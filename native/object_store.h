// Fills an object directory: files in, objects named by their fs-verity SHA-256 digest out. No
// JavaScript here; every function works in any thread, and in several processes at once.

#pragma once

#include <span>
#include <string>
#include <vector>

#include "verity.h"

namespace composefs {

/** What became of a file. The digest and a negative errno or kChanged are as in verity.h. */
struct Stored {
  verity::Measured measured;
  enum class Outcome : uint8_t { kFailed, kAdded, kPresent, kPresentButWrong } outcome;
};

/**
 * Stores regular files (NUL-terminated paths, one after the other) as objects of at most `limit`
 * bytes in the directory open as `store`. What is added was digested from its own copy and is on
 * the disk before it gets its name, so neither a source that changes nor a crash leaves an object
 * that is not what its name says. Returns one result per path.
 */
std::vector<Stored> StoreObjects(const verity::Parameters& parameters, int store,
                                 std::span<const uint8_t> paths, size_t limit);

}  // namespace composefs
