// The JavaScript side of ring_session.h.

#pragma once

#include <node_api.h>

namespace composefs::ring {

/** Adds the class and its probe to the addon's exports. */
void Register(napi_env env, napi_value exports);

}  // namespace composefs::ring
