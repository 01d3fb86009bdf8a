// What the functions that make mounts take from JavaScript and give back to it.

#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fs_context.h"
#include "js.h"

namespace composefs {

/** NUL-terminated strings to a list; false if the last one does not end. */
inline bool UnpackStrings(std::span<const uint8_t> packed, std::vector<std::string>& list) {
  auto at = packed.begin();
  while (at != packed.end()) {
    const auto end = std::find(at, packed.end(), uint8_t{0});
    if (end == packed.end()) return false;
    list.emplace_back(at, end);
    at = end + 1;
  }
  return true;
}

/** MountFailure of src/native.ts. */
inline napi_value ToFailure(napi_env env, const MountOutcome& outcome) {
  napi_value result = nullptr;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "errno", js::ToValue(env, outcome.error));
  for (const auto& [name, text] :
       {std::pair("step", &outcome.step), std::pair("said", &outcome.said)}) {
    napi_value value = nullptr;
    napi_create_string_utf8(env, text->data(), text->size(), &value);
    napi_set_named_property(env, result, name, value);
  }
  return result;
}

}  // namespace composefs
