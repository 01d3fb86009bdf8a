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

int Session::Exchange(size_t reply_length) {
  if (!device_) return -EBADF;
  if (reply_length > 0) {
    // ENOENT: the request was interrupted or its file system is gone. ENODEV: read says it as well.
    const int error = WriteReply(device_.get(), reply_length);
    if (error != 0 && error != ENOENT && error != ENODEV) return kWriteFailed - error;
  }
  if (++exchanges_ % kWakeCheckInterval == 0 && IsWoken()) return -ECANCELED;

  // Only who has just answered may expect the next request soon; an idle session sleeps at once.
  bool polling = reply_length > 0 && polling_ns_ > 0;
  int64_t deadline = 0;
  bool disconnected = false;
  for (;;) {
    const ssize_t length = read(device_.get(), request_.data(), request_.size());
    if (length >= 0) return static_cast<int>(length);
    // ENOENT: the request was aborted while the kernel copied it; the next one is whole.
    if (errno == EINTR || errno == ENOENT) continue;
    if (errno != EAGAIN) return -errno;
    if (disconnected) return -ENODEV;
    if (polling) {
      const int64_t now = MonotonicNs();
      if (deadline == 0) deadline = now + polling_ns_;
      polling = now < deadline;
      if (polling) continue;
    }
    epoll_event ready[2];
    const int count = epoll_wait(events_.get(), ready, 2, -1);
    if (count < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    const epoll_event* device = nullptr;
    for (int i = 0; i < count; i++) {
      if (ready[i].data.u64 == kDeviceReady) device = &ready[i];
    }
    if (device == nullptr) return -ECANCELED;
    // EPOLLERR is the end of the connection; read knows which end, ENODEV or ECONNABORTED.
    disconnected = (device->events & EPOLLERR) != 0;
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
