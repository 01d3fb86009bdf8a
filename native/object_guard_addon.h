// The JavaScript side of object_guard.h.

#pragma once

#include <node_api.h>

namespace composefs::guard {

/** Adds the functions and the class to the addon's exports. */
void Register(napi_env env, napi_value exports);

}  // namespace composefs::guard
