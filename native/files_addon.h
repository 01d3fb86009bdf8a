// Registers the functions of scan.h and object_store.h with JavaScript.

#pragma once

#include <napi.h>

namespace composefs::files {

void Register(Napi::Env env, Napi::Object exports);

}  // namespace composefs::files
