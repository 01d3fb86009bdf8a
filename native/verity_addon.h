// The JavaScript side of verity.h.

#pragma once

#include <node_api.h>

namespace composefs::verity {

/** Adds the functions and the class to the addon's exports. */
void Register(napi_env env, napi_value exports);

}  // namespace composefs::verity
