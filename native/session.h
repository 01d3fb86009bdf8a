// One /dev/fuse descriptor with its two buffers: the serving loop's only system calls. Knows
// nothing of Node. A session belongs to one thread; only its wake descriptor may be used from
// another. ring_session.h does the same over io_uring.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "crew.h"
#include "fd_guard.h"
#include "polling.h"

namespace composefs {

/** Base of the results that report a refused reply: kWriteFailed - errno. */
constexpr int kWriteFailed = -4096;

/** Memory that JavaScript owns and keeps alive. Only the kernel reads and writes it. */
using Bytes = std::span<uint8_t>;

/**
 * Reads an object that JavaScript was given, checked where it has a guard. The bytes read, -errno,
 * or VERITY_STATUS of src/native.ts.
 */
int ReadObject(Fd object, off_t offset, Bytes out);

class Session {
 public:
  /** `device` is in the table as kSessionDevice, and `wake` is a private copy of the eventfd. */
  Session(FdGuard device, Bytes request, Bytes reply, FdGuard wake);
  ~Session() { Close(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /** The caller has checked reply_length <= reply_capacity() here and in Reply. */
  int Exchange(size_t reply_length);
  int Reply(size_t reply_length);
  int ReplyOn(Fd device, size_t reply_length);
  /** The caller has checked that [at, at + length) lies in the reply buffer. */
  int ReadObject(Fd fd, off_t offset, size_t length, size_t at);
  void SetPolling(int microseconds) { polling_.Set(int64_t{microseconds} * 1000, false); }
  void PollAdaptively(int microseconds) { polling_.Set(int64_t{microseconds} * 1000, true); }
  /**
   * From now on this thread shares the connection with the other sessions that have the same wake
   * descriptor and joined; `wake_fd` is the number it was handed out as. 0 or -errno.
   */
  int Join(int wake_fd);
  void Close();

  /** Does not change with Close, so that a closed session still tells a bad length. */
  size_t reply_capacity() const { return reply_.size(); }

 private:
  int WriteReply(int device, size_t reply_length);
  bool IsWoken() const;
  /** Waits until there is something to read. 0, or what Exchange returns. */
  int Sleep(bool& is_disconnected);

  FdGuard device_;
  FdGuard wake_;
  /** Waits for both of them. */
  FdGuard events_;
  Bytes request_;
  Bytes reply_;
  Polling polling_;
  uint32_t exchanges_ = 0;
  std::shared_ptr<Crew> crew_;
  int member_ = -1;
  /** Waits for requests, not for the crew. */
  bool is_listening_ = true;
  /** When the last request was handed out. */
  int64_t received_ns_ = 0;
};

}  // namespace composefs
