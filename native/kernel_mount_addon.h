// Registers the function of kernel_mount.h with its argument checks.

#pragma once

#include <node_api.h>

namespace composefs::kernel {

void Register(napi_env env, napi_value exports);

}  // namespace composefs::kernel
