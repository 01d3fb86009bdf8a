// The JavaScript side of file_table.h.

#pragma once

#include <node_api.h>

namespace composefs::files {

/** Adds the functions and the class to the addon's exports. */
void RegisterTable(napi_env env, napi_value exports);

}  // namespace composefs::files
