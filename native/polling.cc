#include "polling.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

namespace composefs {

namespace {

// Giving the CPU away takes half a microsecond when nobody wants it, and up to 200 when it is the
// caller who goes on to its next request. Whoever keeps it for longer has work of its own.
constexpr int64_t kCrowdedNs = 500'000;
// Failures are usual at the pauses between two uses of the mount. So many in a row mean that
// requests come too slowly to be waited for.
constexpr uint32_t kFailuresAllowed = 8;
// Replies after which not to look: the first time, and at most.
constexpr uint32_t kPauseMin = 64;
constexpr uint32_t kPauseMax = 4096;

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

bool Polling::Begin(Crew* crew) {
  if (limit_ns_ == 0) return false;
  if (adaptive_ && pause_ > 0) {
    pause_--;
    return false;
  }
  if (adaptive_ && crew != nullptr && !crew->BeginPolling()) return false;
  deadline_ns_ = 0;
  return true;
}

bool Polling::GoOn() {
  const int64_t now = MonotonicNs();
  if (deadline_ns_ == 0) deadline_ns_ = now + limit_ns_;
  if (now >= deadline_ns_) return false;
  yielded_ns_ = now;
  sched_yield();
  return true;
}

void Polling::End(Crew* crew, bool found) {
  if (!adaptive_) return;
  if (crew != nullptr) crew->EndPolling();
  const bool yielded = deadline_ns_ != 0;
  const bool is_crowded = yielded && MonotonicNs() - yielded_ns_ > kCrowdedNs;
  if (found && !is_crowded) {
    failures_ = 0;
    return;
  }
  // Who sleeps is let in before those who compute, who gives its CPU away is not: on a machine
  // without an idle CPU sleeping is three times as fast.
  if (is_crowded) failures_ = std::max(failures_, kFailuresAllowed);
  if (++failures_ <= kFailuresAllowed) return;
  const uint32_t doublings = std::min(failures_ - kFailuresAllowed - 1, 6u);
  pause_ = std::min(kPauseMin << doublings, kPauseMax);
}

}  // namespace composefs
