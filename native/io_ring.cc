// The memory order is that of io_uring(7): a tail is published with release, read with acquire.

#include "io_ring.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace composefs {

namespace {

int Setup(unsigned entries, io_uring_params& params) {
  return static_cast<int>(syscall(__NR_io_uring_setup, entries, &params));
}

template <typename Word>
Word* At(void* start, uint32_t offset) {
  return reinterpret_cast<Word*>(static_cast<uint8_t*>(start) + offset);
}

// One thread submits and waits, so completions need not interrupt it: they are made when it waits.
constexpr uint32_t kFlags =
    IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

}  // namespace

int IoRing::Probe() {
  io_uring_params params = {};
  params.flags = kFlags;
  const FdGuard fd(Setup(1, params));
  return fd ? 0 : -errno;
}

bool IoRing::Map(Mapping& mapping, size_t size, uint64_t offset) {
  void* start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(),
                     static_cast<off_t>(offset));
  if (start == MAP_FAILED) return false;
  mapping = {start, size};
  return true;
}

int IoRing::Open(unsigned entries) {
  io_uring_params params = {};
  params.flags = kFlags;
  fd_.Reset(Setup(entries, params));
  if (!fd_) return -errno;
  const size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  const size_t cq_size = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  // Kernels with 128-byte submissions have IORING_FEAT_SINGLE_MMAP.
  if (!Map(rings_, sq_size > cq_size ? sq_size : cq_size, IORING_OFF_SQ_RING) ||
      !Map(submissions_, params.sq_entries * sizeof(Submission), IORING_OFF_SQES)) {
    const int error = -errno;
    Close();
    return error;
  }
  sq_head_ = At<uint32_t>(rings_.start, params.sq_off.head);
  sq_tail_ = At<uint32_t>(rings_.start, params.sq_off.tail);
  sq_array_ = At<uint32_t>(rings_.start, params.sq_off.array);
  sq_mask_ = *At<uint32_t>(rings_.start, params.sq_off.ring_mask);
  cq_head_ = At<uint32_t>(rings_.start, params.cq_off.head);
  cq_tail_ = At<uint32_t>(rings_.start, params.cq_off.tail);
  cqes_ = At<io_uring_cqe>(rings_.start, params.cq_off.cqes);
  cq_mask_ = *At<uint32_t>(rings_.start, params.cq_off.ring_mask);
  return 0;
}

void IoRing::Close() {
  for (Mapping* mapping : {&rings_, &submissions_}) {
    if (mapping->start != nullptr) munmap(mapping->start, mapping->size);
    *mapping = {};
  }
  fd_.Reset();
}

Submission* IoRing::Prepare() {
  const uint32_t tail = *sq_tail_;
  if (tail - std::atomic_ref(*sq_head_).load(std::memory_order_acquire) > sq_mask_) return nullptr;
  const uint32_t index = tail & sq_mask_;
  Submission* submission = static_cast<Submission*>(submissions_.start) + index;
  memset(submission, 0, sizeof *submission);
  sq_array_[index] = index;
  // Without a submission thread the kernel looks at the tail only in io_uring_enter.
  std::atomic_ref(*sq_tail_).store(tail + 1, std::memory_order_release);
  prepared_++;
  return submission;
}

int IoRing::Enter(unsigned completions) {
  const long submitted = syscall(__NR_io_uring_enter, fd_.get(), prepared_, completions,
                                 IORING_ENTER_GETEVENTS, nullptr, size_t{0});
  if (submitted < 0) return -errno;
  prepared_ -= static_cast<uint32_t>(submitted);
  return 0;
}

const io_uring_cqe* IoRing::Peek(uint32_t i) const {
  const uint32_t head = *cq_head_;
  const uint32_t ready = std::atomic_ref(*cq_tail_).load(std::memory_order_acquire) - head;
  return i < ready ? &cqes_[(head + i) & cq_mask_] : nullptr;
}

bool IoRing::Take(io_uring_cqe& completion) {
  const io_uring_cqe* oldest = Peek(0);
  if (oldest == nullptr) return false;
  completion = *oldest;
  std::atomic_ref(*cq_head_).store(*cq_head_ + 1, std::memory_order_release);
  return true;
}

}  // namespace composefs
