// Requests over io_uring (Linux 6.14): the kernel has one queue of requests for each CPU, and a
// session serves one or several of them. Like Session it belongs to one thread; only Answer and the
// wake descriptor may be used from another.

#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "fd_guard.h"
#include "io_ring.h"
#include "polling.h"
#include "session.h"

namespace composefs {

/**
 * A slot is one request in service, with a request and a reply buffer of its own: as many per queue
 * as requests may be open at a time, and a last one for the device, by which INTERRUPT, nearly
 * every FORGET and whatever was asked before the queues were there still come.
 */
class RingSession {
 public:
  /** `requests` and `replies` hold the buffers of all slots, of equal size. */
  RingSession(FdGuard device, FdGuard wake, Bytes requests, Bytes replies, uint32_t slots);
  ~RingSession() { Close(); }
  RingSession(const RingSession&) = delete;
  RingSession& operator=(const RingSession&) = delete;

  /**
   * Registers the slots with the queues, as many with each, and keeps the calling thread on the
   * CPUs of the queues. From then on that thread must exchange. Only one session of a connection
   * reads the device, and only that one is sure to hear of the connection's end: others do not
   * while all their slots are open. 0 or -errno, and then the session can only be closed.
   */
  int Open(std::span<const uint32_t> queues, bool reads_device);
  /**
   * Sends the reply in the buffer of the current slot, if there is one, and waits for a request:
   * the slot it is in times kSlotUnit, plus its length; or as Session::Exchange. A slot whose
   * request is not replied to stays open for Answer.
   */
  int Exchange(size_t reply_length);
  /** The caller has checked that [at, at + length) lies in the buffer. */
  int ReadObject(Fd fd, off_t offset, size_t length, size_t at) const;
  void SetPolling(int microseconds) { polling_.Set(int64_t{microseconds} * 1000, false); }
  void PollAdaptively(int microseconds) { polling_.Set(int64_t{microseconds} * 1000, true); }
  void Close();

  /**
   * From any thread: replies to a request that a slot was left open for. False if no session has
   * it, or none owns the device.
   */
  static bool Answer(Fd device, std::span<const uint8_t> reply);
  /** Whether this process can have such sessions. 0 or -errno. */
  static int Probe();

  /** Of one slot. Does not change with Close. */
  size_t reply_capacity() const { return reply_size_; }
  /** Each queue needs one of them: without, the kernel holds back all requests. */
  size_t queue_capacity() const { return slots_.size(); }

  /** What the slot's number is multiplied with: longer than any request. */
  static constexpr int kSlotUnit = 1 << 18;
  static constexpr uint32_t kSlotsMax = 1024;

 private:
  /** struct fuse_uring_req_header of <linux/fuse.h>. */
  struct RingHeader {
    uint8_t header[128];     // Request: fuse_in_header. Reply: fuse_out_header.
    uint8_t arguments[128];  // The fixed arguments of the operation.
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_size;
    uint32_t padding;
    uint64_t reserved;
  };
  static_assert(sizeof(RingHeader) == 288);
  struct Slot {
    RingHeader header;
    /** Addresses of header and payload: the kernel reads them once, when the slot is registered. */
    std::array<uint64_t, 4> vectors;
    uint64_t unique = 0;
    uint16_t queue = 0;
    /** False for a request that JavaScript has no answer to and the kernel wants back all the same.
     */
    bool takes_reply = true;
    /** The request is with JavaScript. */
    bool is_open = false;
  };

  Bytes RequestOf(uint32_t slot) const {
    return requests_.subspan(slot * request_size_, request_size_);
  }
  Bytes ReplyOf(uint32_t slot) const { return replies_.subspan(slot * reply_size_, reply_size_); }
  uint32_t device_slot() const { return static_cast<uint32_t>(slots_.size()); }

  int RegisterSlots(std::span<const uint32_t> queues, bool reads_device);
  int EnterOnce(unsigned completions);
  int LookForRequest();
  void Command(uint32_t slot, uint32_t operation);
  void Poll(int fd, uint64_t what);
  void WriteHeader(uint32_t slot, int32_t error);
  void Commit(uint32_t slot, size_t reply_length);
  void CommitAnswers();
  int Take(const io_uring_cqe& completion);
  int Receive(uint32_t slot);
  int ReadDevice();

  IoRing ring_;
  FdGuard device_;
  FdGuard wake_;
  /** Told when `answered_` has something. */
  FdGuard answer_event_;
  Bytes requests_;
  Bytes replies_;
  size_t request_size_;
  size_t reply_size_;
  /** Without the one for the device. */
  std::vector<Slot> slots_;
  uint32_t current_ = 0;
  bool device_is_ready_ = false;
  Polling polling_;

  struct Answered {
    uint32_t slot;
    size_t length;
  };
  /** Guards `answered_`, and the `unique` and `is_open` of the slots. */
  std::mutex mutex_;
  std::vector<Answered> answered_;
};

}  // namespace composefs
