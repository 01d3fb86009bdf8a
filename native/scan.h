// Reads a directory of a source tree in one go: entries with their attributes, link targets, short
// contents and extended attributes, which Node cannot read at all.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace composefs {

/** The layout of a record; SCAN_RECORD of src/native.ts. All numbers are little-endian. */
struct ScanHeader {
  uint32_t length;  // Of the whole record, a multiple of 8.
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint64_t size;
  int64_t mtime_seconds;
  uint32_t mtime_nanoseconds;
  uint32_t rdev;
  uint64_t ino;
  uint64_t dev;
  uint32_t nlink;
  uint16_t name_length;
  uint16_t content_length;  // Of a symlink's target or a short file's content.
  uint32_t xattrs_length;   // Then name, content, and xattrs: u16 and u32 lengths, name, value.
  uint32_t padding;
};
static_assert(sizeof(ScanHeader) == 72);

enum ScanFlags : uint32_t { kScanXattrs = 1, kScanUserXattrsOnly = 2 };

/**
 * Appends a record for the directory itself (empty name) and one for every entry, in the order of
 * readdir(3); an entry's xattrs are left out if it is a directory. Contents are read of regular
 * files of at most `inline_max` bytes. 0, or -errno with `culprit` the entry's name.
 */
int ScanDirectory(const std::string& path, uint32_t flags, uint64_t inline_max,
                  std::vector<uint8_t>& records, std::string& culprit);

}  // namespace composefs
