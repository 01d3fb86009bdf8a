#include "polling.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

namespace composefs {

namespace {

// Failures are usual at the pauses between two uses of the mount. So many in a row mean that
// requests come too slowly to be waited for.
constexpr uint32_t kFailuresAllowed = 8;
constexpr uint32_t kPauseMin = 16;
constexpr uint32_t kPauseMax = 1024;

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
  sched_yield();
  return true;
}

void Polling::End(Crew* crew, bool found) {
  if (!adaptive_) return;
  if (crew != nullptr) crew->EndPolling();
  if (found) {
    failures_ = 0;
    return;
  }
  if (++failures_ <= kFailuresAllowed) return;
  const uint32_t doublings = std::min(failures_ - kFailuresAllowed, 7u);
  pause_ = std::min(kPauseMin << doublings, kPauseMax);
}

}  // namespace composefs
