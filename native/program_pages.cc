// Finds in /proc/self/smaps what is mapped from files, cannot be written and has not been: only of
// such a page is it certain that the file has it too, so that letting go of it loses nothing.

#include "program_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace composefs::sys {
namespace {

constexpr size_t kLineMax = 8192;  // A path is at most 4096 bytes long, some of them escaped.

struct Mapping {
  unsigned long start = 0;
  unsigned long end = 0;
  bool is_program = false;
};

/** Reads the line with which a mapping begins. False for the lines of facts behind it. */
bool ParseMapping(const char* line, Mapping& mapping) {
  unsigned long start;
  unsigned long end;
  char permissions[5];
  int path = 0;
  if (sscanf(line, "%lx-%lx %4s %*s %*s %*s %n", &start, &end, permissions, &path) != 3) {
    return false;
  }
  const bool is_read_only = strcmp(permissions, "r-xp") == 0 || strcmp(permissions, "r--p") == 0;
  mapping = {start, end, is_read_only && path > 0 && line[path] == '/'};
  return true;
}

struct CloseFile {
  void operator()(FILE* file) const { fclose(file); }
};

}  // namespace

int ReleaseProgramPages() {
  const std::unique_ptr<FILE, CloseFile> maps(fopen("/proc/self/smaps", "re"));
  if (!maps) return -errno;
  char line[kLineMax];
  Mapping mapping;
  while (fgets(line, sizeof line, maps.get())) {
    unsigned long written_kib;
    if (ParseMapping(line, mapping) || sscanf(line, "Anonymous: %lu", &written_kib) != 1) continue;
    // Relocated, or moved into memory of its own (node --use-largepages): it would come back as
    // zeros.
    if (!mapping.is_program || written_kib != 0) continue;
    const size_t length = mapping.end - mapping.start;
    if (madvise(reinterpret_cast<void*>(mapping.start), length, MADV_DONTNEED) != 0) return -errno;
  }
  return 0;
}

}  // namespace composefs::sys
