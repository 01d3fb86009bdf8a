#include "crew.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <unordered_map>

namespace composefs {

namespace {

// A listener that has been busy for that long is not counted on. The timer wakes a sleeper as often
// while the mount is in use: 0.2 % of a CPU.
constexpr int64_t kOverdueNs = 2'000'000;

// What an event of a sleeper is about.
constexpr uint64_t kCalled = 0;
constexpr uint64_t kWoken = 1;

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::shared_ptr<Crew> Crew::Of(int wake_fd) {
  // Never destroyed: threads may end after static objects do.
  static std::mutex* mutex = new std::mutex;
  static auto* crews = new std::unordered_map<int, std::weak_ptr<Crew>>;
  const std::lock_guard lock(*mutex);
  std::weak_ptr<Crew>& known = (*crews)[wake_fd];
  std::shared_ptr<Crew> crew = known.lock();
  if (crew == nullptr) known = crew = std::make_shared<Crew>();
  return crew;
}

Crew::Crew()
    : baton_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)),
      timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {}

int Crew::Join(int wake_fd) {
  if (!baton_ || !timer_) return -EMFILE;
  const std::lock_guard lock(mutex_);
  const size_t number = joined_.load();
  if (number == kMembersMax) return -EAGAIN;
  Member& member = members_[number];
  member.events.Reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_event exclusive = {EPOLLIN | EPOLLEXCLUSIVE, {.u64 = kCalled}};
  epoll_event woken = {EPOLLIN, {.u64 = kWoken}};
  if (!member.events ||
      epoll_ctl(member.events.get(), EPOLL_CTL_ADD, baton_.get(), &exclusive) < 0 ||
      epoll_ctl(member.events.get(), EPOLL_CTL_ADD, timer_.get(), &exclusive) < 0 ||
      epoll_ctl(member.events.get(), EPOLL_CTL_ADD, wake_fd, &woken) < 0) {
    return -errno;
  }
  joined_.store(number + 1);
  return static_cast<int>(number);
}

void Crew::Leave(int member) {
  members_[member].busy_since.store(kAsleep);
  // Who sleeps sees for itself whether the connection is still there.
  Dismiss();
}

bool Crew::MayListen(int member) {
  // The first one does, whoever else comes at the same time.
  if (member > 0) return false;
  members_[member].busy_since.store(kIdle);
  return true;
}

void Crew::Received(int member, int64_t now_ns) {
  // In this order, and seen in this order by Sleep: else a timer might end unnoticed by both.
  members_[member].busy_since.store(now_ns);
  if (!timer_runs_.load()) StartTimer();
}

void Crew::StartTimer() {
  if (timer_runs_.exchange(true)) return;
  const itimerspec once = {{}, {0, kOverdueNs}};
  timerfd_settime(timer_.get(), 0, &once, nullptr);
}

bool Crew::SomebodyListens(int except) const {
  const int64_t overdue = MonotonicNs() - kOverdueNs;
  for (const Member& member : members()) {
    const int64_t since = member.busy_since.load();
    if (&member != &members_[except] && (since == kIdle || since > overdue)) return true;
  }
  return false;
}

void Crew::Promote() {
  for (const Member& member : members()) {
    if (member.busy_since.load() == kAsleep) return Pass(1);
  }
}

void Crew::Pass(uint64_t batons) {
  // It cannot fail before 2^64 batons lie there.
  [[maybe_unused]] const ssize_t written = write(baton_.get(), &batons, sizeof batons);
}

bool Crew::Retire(int member) {
  const std::lock_guard lock(mutex_);
  // If the other one is held up from now on, the timer tells: it runs while a request is served.
  if (!SomebodyListens(member)) return false;
  members_[member].busy_since.store(kAsleep);
  return true;
}

int Crew::Sleep(int member) {
  for (;;) {
    uint64_t count;
    if (read(baton_.get(), &count, sizeof count) > 0) break;
    if (read(timer_.get(), &count, sizeof count) > 0) {
      timer_runs_.store(false);
      if (!SomebodyListens(member)) break;
      if (IsInUse()) StartTimer();
    }
    epoll_event ready[3];
    const int ready_count = epoll_wait(members_[member].events.get(), ready, 3, -1);
    if (ready_count < 0 && errno != EINTR) return -errno;
    for (int i = 0; i < ready_count; i++) {
      if (ready[i].data.u64 == kWoken) return -ECANCELED;
    }
  }
  members_[member].busy_since.store(kIdle);
  return 0;
}

bool Crew::IsInUse() const {
  for (const Member& member : members()) {
    if (member.busy_since.load() > kIdle) return true;
  }
  return false;
}

void Crew::Dismiss() {
  Pass(kMembersMax);
}

}  // namespace composefs
