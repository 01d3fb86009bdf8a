// One io_uring instance with 128-byte submissions, as the FUSE queues need it, by plain system
// calls: what is used of io_uring is less than what a library would add. Knows nothing of FUSE.

#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "fd_guard.h"

namespace composefs {

/** An entry of the submission queue when a ring is made with IORING_SETUP_SQE128. */
union Submission {
  io_uring_sqe fields;
  uint8_t bytes[128];
};

/** Of one thread: the one that calls Open submits and waits. */
class IoRing {
 public:
  IoRing() = default;
  ~IoRing() { Close(); }
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;

  /** At most `entries` submissions are prepared between two Enters. 0 or -errno. */
  int Open(unsigned entries);
  /** Whether this process may use such rings at all. 0 or -errno. */
  static int Probe();
  void Close();
  bool is_open() const { return static_cast<bool>(fd_); }

  /** A zeroed entry, which the next Enter submits; nullptr if the queue is full. */
  Submission* Prepare();
  bool has_prepared() const { return prepared_ > 0; }
  /** Submits what is prepared and waits for that many completions. 0 or -errno. */
  int Enter(unsigned completions);
  /** The completion behind the `i` oldest ones, left in the queue; nullptr if there is none. */
  const io_uring_cqe* Peek(uint32_t i) const;
  /** Takes the oldest completion. False if there is none. */
  bool Take(io_uring_cqe& completion);

 private:
  struct Mapping {
    void* start = nullptr;
    size_t size = 0;
  };
  bool Map(Mapping& mapping, size_t size, uint64_t offset);

  FdGuard fd_;
  Mapping rings_, submissions_;
  uint32_t* sq_head_ = nullptr;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* sq_array_ = nullptr;
  uint32_t sq_mask_ = 0;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  io_uring_cqe* cqes_ = nullptr;
  uint32_t cq_mask_ = 0;
  uint32_t prepared_ = 0;
};

}  // namespace composefs
