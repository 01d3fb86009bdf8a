// Verification of opened objects. A descriptor whose content was found right gets a guard: what is
// read from it afterwards is checked block by block, so that a change of the file is never served.
// Results are remembered for the process, whichever thread found them.

#pragma once

#include <cstdint>
#include <span>

#include "content_tree.h"
#include "fd_guard.h"
#include "sys.h"

namespace composefs::guard {

/** Who may vouch for the content; VERIFY_ENGINE of src/native.ts. */
enum class Engine : uint8_t { kAny = 0, kKernel = 1, kUserSpace = 2 };

/** Results of Verify beside -errno and those of verity.h; VERIFIED of src/native.ts. */
constexpr int64_t kByKernel = 1;    // The kernel checks every read of this file.
constexpr int64_t kRemembered = 2;  // Hashed earlier, unchanged since. Guarded.
constexpr int64_t kComputed = 3;    // Hashed now. Guarded.
constexpr int64_t kDiffersByKernel = -4100;
constexpr int64_t kDiffersComputed = -4101;
constexpr int64_t kNoKernelVerity = -4102;

/**
 * Compares the content of an object with a digest: the kernel's word if it has one, else what is
 * remembered of the file, else what is computed here if it has at most `limit` bytes (larger:
 * kTooLarge; Measure it first). `actual` receives the digest that differs.
 */
int64_t Verify(Fd object, const sys::ObjectFacts& facts, const verity::Digest& expected,
               Engine engine, int64_t limit, verity::Digest& actual);

/** Hashes a file and remembers the result. 0, -errno, -ECANCELED, or kChanged. */
int64_t Measure(int fd, const sys::ObjectFacts& facts, uint32_t algorithm,
                const verity::Progress& progress);

/** Forgets what is remembered; guards of open objects stay. The number of files forgotten. */
int64_t Forget();

/** Reads from a descriptor of kind kGuardedObject. As ContentTree::Read. */
int64_t Read(int fd, int64_t offset, std::span<uint8_t> out);

/** Bytes that were verified, of a descriptor of kind kGuardedObject; or -EBADF. */
int64_t SizeOf(int fd);

/** Before a guarded descriptor is closed. */
void Remove(int fd);

}  // namespace composefs::guard
