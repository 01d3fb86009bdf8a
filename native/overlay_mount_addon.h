// Registers the function of overlay_mount.h with its argument checks.

#pragma once

#include <node_api.h>

namespace composefs::overlay {

void Register(napi_env env, napi_value exports);

}  // namespace composefs::overlay
