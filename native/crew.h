// The threads that serve one connection by its device, and which of them take requests.
//
// On few CPUs a request is answered soonest when one thread listens and the others sleep: every
// further listener is woken for nothing by requests that the first one takes. So one listens.
// Another one joins it when requests pile up behind a slow one, or when it has been busy with one
// for milliseconds (a disk, a server that does not answer); and whoever is woken for nothing sleeps
// again.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "fd_guard.h"

namespace composefs {

class Crew {
 public:
  /** As many threads as a mount can have. */
  static constexpr int kMembersMax = 64;

  /** The crew of all sessions that share an eventfd of CreateWake, made by the first. */
  static std::shared_ptr<Crew> Of(int wake_fd);

  Crew();

  /** The number of a new member, whose sleep ends when `wake_fd` is readable; or -errno. */
  int Join(int wake_fd);
  /** It never listens again. */
  void Leave(int member);
  /** Before it waits for requests the first time: whether it may, else it sleeps. */
  bool MayListen(int member);
  /** It got a request. `now_ns` is of CLOCK_MONOTONIC. */
  void Received(int member, int64_t now_ns);
  /** It has answered. */
  void Answered(int member) { members_[member].busy_since.store(kIdle, std::memory_order_release); }
  /** Wakes a sleeper to listen. */
  void Promote();
  /** For a listener that was woken for nothing: whether it may sleep. */
  bool Retire(int member);
  /** Sleeps until it is to listen. 0, -ECANCELED when woken, or another -errno. */
  int Sleep(int member);
  /** The connection ended: all shall see for themselves. */
  void Dismiss();

  /** Whether the caller may look for requests without sleeping; if so it calls EndPolling. */
  bool BeginPolling() { return !polling_.exchange(true); }
  void EndPolling() { polling_.store(false); }

 private:
  /** What else than a time a member's entry can be. */
  static constexpr int64_t kAsleep = -1;
  static constexpr int64_t kIdle = 0;

  bool SomebodyListens(int except) const;
  bool IsInUse() const;
  void StartTimer();
  void Pass(uint64_t batons);

  /** A semaphore: one thread that reads from it goes on to listen. */
  FdGuard baton_;
  /** Runs while requests are served, to look whether one takes too long. */
  FdGuard timer_;
  std::atomic<bool> timer_runs_ = false;
  struct Member {
    /** When it got the request that it serves, kIdle while it listens, kAsleep. */
    std::atomic<int64_t> busy_since = kAsleep;
    /** Exclusive entries of baton and timer, so that each wakes one sleeper; and its wake. */
    FdGuard events;
  };
  std::span<const Member> members() const { return {members_.data(), joined_.load()}; }

  std::array<Member, kMembersMax> members_;
  /** How many of them are in use. */
  std::atomic<size_t> joined_ = 0;
  /** Held by who joins, and by who retires: of the last two listeners only one may. */
  std::mutex mutex_;
  std::atomic<bool> polling_ = false;
};

}  // namespace composefs
