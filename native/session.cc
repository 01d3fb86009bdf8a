// The errno reactions follow the kernel's fs/fuse/dev.c, functions fuse_dev_do_read,
// fuse_dev_do_write and fuse_dev_poll.

#include "session.h"

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "object_guard.h"
#include "ring_session.h"

namespace composefs {

namespace {

// A session that always finds a request queued never sleeps in poll, so it would never see the wake
// descriptor. Looking every 256th time costs about 2 ns per request.
constexpr uint32_t kWakeCheckInterval = 256;

// What an event of the session's epoll instance is about.
constexpr uint64_t kDeviceReady = 0;
constexpr uint64_t kWoken = 1;

// Serving a request takes 1 to 20 us unless something has to be waited for.
constexpr int64_t kSlowNs = 100'000;

int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Session::Session(FdGuard device, Bytes request, Bytes reply, FdGuard wake)
    : device_(std::move(device)), wake_(std::move(wake)), request_(request), reply_(reply) {
  // The flag belongs to the open file, which is private to this connection, not to /dev/fuse.
  const int flags = fcntl(device_.get(), F_GETFL);
  fcntl(device_.get(), F_SETFL, flags | O_NONBLOCK);
  // All sessions of a connection sleep on one queue. poll(2) would wake every one of them for every
  // request; an exclusive epoll entry wakes one.
  events_ = FdGuard(epoll_create1(EPOLL_CLOEXEC));
  epoll_event device_ready = {EPOLLIN | EPOLLEXCLUSIVE, {.u64 = kDeviceReady}};
  epoll_ctl(events_.get(), EPOLL_CTL_ADD, device_.get(), &device_ready);
  epoll_event woken = {EPOLLIN, {.u64 = kWoken}};
  epoll_ctl(events_.get(), EPOLL_CTL_ADD, wake_.get(), &woken);
}

void Session::Close() {
  ChangeKind(device_.get(), Kind::kSessionDevice, Kind::kNone);
  device_.Reset();
  wake_.Reset();
  events_.Reset();
  if (crew_ != nullptr) crew_->Leave(member_);
  crew_.reset();
}

/** 0 or an errno. One write is one whole reply, so there are no short writes. */
int Session::WriteReply(int device, size_t reply_length) {
  while (write(device, reply_.data(), reply_length) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

bool Session::IsWoken() const {
  pollfd wake = {wake_.get(), POLLIN, 0};
  return poll(&wake, 1, 0) > 0;
}

int Session::Join(int wake_fd) {
  if (!device_ || crew_ != nullptr) return -EBADF;
  std::shared_ptr<Crew> crew = Crew::Of(wake_fd);
  member_ = crew->Join(wake_.get());
  if (member_ < 0) return member_;
  crew_ = std::move(crew);
  is_listening_ = crew_->MayListen(member_);
  return 0;
}

int Session::Exchange(size_t reply_length) {
  if (!device_) return -EBADF;
  if (reply_length > 0) {
    // ENOENT: the request was interrupted or its file system is gone. ENODEV: read says it as well.
    const int error = WriteReply(device_.get(), reply_length);
    if (error != 0 && error != ENOENT && error != ENODEV) return kWriteFailed - error;
  }
  if (++exchanges_ % kWakeCheckInterval == 0 && IsWoken()) return -ECANCELED;
  bool was_slow = false;
  if (crew_ != nullptr) {
    was_slow = MonotonicNs() - received_ns_ > kSlowNs;
    if (is_listening_) crew_->Answered(member_);
  }

  // Only who has just answered may expect the next request soon; an idle session sleeps at once.
  bool polls = reply_length > 0 && polling_.Begin(crew_.get());
  bool is_disconnected = false;
  for (int looks = 0;; looks++) {
    if (!is_listening_) {
      const int error = crew_->Sleep(member_);
      if (error != 0) return error;
      is_listening_ = true;
    }
    const ssize_t length = read(device_.get(), request_.data(), request_.size());
    const int error = errno;
    if (length >= 0 || (error != EINTR && error != ENOENT && error != EAGAIN)) {
      if (polls) polling_.End(crew_.get(), length >= 0);
      if (crew_ != nullptr) {
        if (length < 0) crew_->Dismiss();
        // Another one was waiting while the last one took long: more hands are needed.
        if (looks == 0 && was_slow) crew_->Promote();
        received_ns_ = MonotonicNs();
        crew_->Received(member_, received_ns_);
      }
      return length >= 0 ? static_cast<int>(length) : -error;
    }
    // ENOENT: the request was aborted while the kernel copied it; the next one is whole.
    if (error != EAGAIN) continue;
    if (is_disconnected) {
      if (crew_ != nullptr) crew_->Dismiss();
      return -ENODEV;
    }
    if (polls && polling_.GoOn()) continue;
    if (polls) {
      polling_.End(crew_.get(), false);
      polls = false;
    } else if (looks > 0 && crew_ != nullptr && crew_->Retire(member_)) {
      // Woken for nothing: one listener less will do.
      is_listening_ = false;
      continue;
    }
    const int ended = Sleep(is_disconnected);
    if (ended != 0) return ended;
  }
}

int Session::Sleep(bool& is_disconnected) {
  for (;;) {
    epoll_event ready[2];
    const int count = epoll_wait(events_.get(), ready, 2, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
      if (ready[i].data.u64 != kDeviceReady) continue;
      // EPOLLERR is the end of the connection; read knows which end, ENODEV or ECONNABORTED.
      is_disconnected = (ready[i].events & EPOLLERR) != 0;
      return 0;
    }
    return -ECANCELED;
  }
}

int Session::Reply(size_t reply_length) {
  if (!device_) return -EBADF;
  return -WriteReply(device_.get(), reply_length);
}

int Session::ReplyOn(Fd device, size_t reply_length) {
  if (!device_ || KindOf(device.number) != Kind::kSessionDevice) return -EBADF;
  if (RingSession::Answer(device, reply_.first(reply_length))) return 0;
  return -WriteReply(device.number, reply_length);
}

int Session::ReadObject(Fd fd, off_t offset, size_t length, size_t at) {
  return device_ ? composefs::ReadObject(fd, offset, reply_.subspan(at, length)) : -EBADF;
}

int ReadObject(Fd object, off_t offset, Bytes out) {
  switch (KindOf(object.number)) {
    case Kind::kObject:
      return static_cast<int>(verity::ReadAll(object.number, out.data(), out.size(), offset));
    case Kind::kGuardedObject:
      return static_cast<int>(guard::Read(object.number, offset, out));
    default:
      return -EBADF;
  }
}

}  // namespace composefs
