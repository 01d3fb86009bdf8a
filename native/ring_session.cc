// The message format is that of the kernel's fs/fuse/dev_uring.c: a request comes in three parts,
// of which the first tells the length of all. They are put together as read(2) on the device
// delivers them, so that whoever serves requests does not know the difference: 120 bytes and 10 ns.

#include "ring_session.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

namespace composefs {

namespace {

// enum fuse_uring_cmd and struct fuse_uring_cmd_req, which Debian 12's headers do not have.
constexpr uint32_t kRegister = 1;
constexpr uint32_t kCommitAndFetch = 2;
struct CommandArguments {
  uint64_t flags;
  uint64_t commit_id;
  uint16_t queue;
  uint8_t padding[6];
};
constexpr size_t kArgumentsAt = 48;

constexpr size_t kInHeaderSize = 40;
constexpr size_t kOutHeaderSize = 16;
constexpr size_t kOpcodeAt = 4;
constexpr size_t kErrorAt = 4;
constexpr size_t kUniqueAt = 8;
// By the device nobody waits for what becomes of these. By a ring the kernel sends one and waits
// for it when it cannot use an entry of READDIRPLUS.
constexpr uint32_t kForget = 2;
constexpr uint32_t kBatchForget = 42;

// What a completion is about; smaller numbers are slots.
constexpr uint64_t kDevice = uint64_t{1} << 32;
constexpr uint64_t kWake = kDevice + 1;
constexpr uint64_t kAnswer = kDevice + 2;
constexpr unsigned kOtherSubmissions = 8;

// What Take says when the completion was no request.
constexpr int kGoOn = kWriteFailed - 4096;

template <typename Number>
Number Load(const uint8_t* at) {
  Number number;
  memcpy(&number, at, sizeof number);
  return number;
}

/** The sessions of the process by their device, for Answer. */
struct Registry {
  std::mutex mutex;
  std::unordered_map<int, RingSession*> sessions;
};

Registry& AllSessions() {
  // Never destroyed: threads may end after static objects do.
  static Registry* registry = new Registry;
  return *registry;
}

/**
 * Each queue holds the requests made on one CPU: served there, the caller's caches stay warm. Only
 * CPUs that the thread has been allowed so far count (taskset, systemd's CPUAffinity); if it may
 * use none of them, or there are more CPUs than a cpu_set_t can name, the scheduler decides.
 */
void StayOn(std::span<const uint32_t> cpus) {
  cpu_set_t allowed, wanted;
  CPU_ZERO(&wanted);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (const uint32_t cpu : cpus) {
    if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, &allowed)) CPU_SET(cpu, &wanted);
  }
  if (CPU_COUNT(&wanted) > 0) sched_setaffinity(0, sizeof wanted, &wanted);
}

/** What a slot completes with when the connection has ended or the ring is being closed. */
bool IsEnd(int error) {
  return error == -ENOTCONN || error == -ECONNABORTED || error == -ENODEV || error == -ECANCELED;
}

}  // namespace

RingSession::RingSession(FdGuard device, FdGuard wake, Bytes requests, Bytes replies,
                         uint32_t slots)
    : device_(std::move(device)),
      wake_(std::move(wake)),
      requests_(requests),
      replies_(replies),
      request_size_(requests.size() / slots),
      reply_size_(replies.size() / slots),
      slots_(slots - 1),
      current_(slots - 1) {
  const int flags = fcntl(device_.get(), F_GETFL);
  fcntl(device_.get(), F_SETFL, flags | O_NONBLOCK);
}

int RingSession::Probe() {
  // The buffers are for 256 pages of 4 KiB; with larger ones the kernel would refuse them.
  if (sysconf(_SC_PAGESIZE) != 4096) return -EOPNOTSUPP;
  return IoRing::Probe();
}

int RingSession::Open(std::span<const uint32_t> queues, bool reads_device) {
  if (!device_ || ring_.is_open()) return -EBADF;
  answer_event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!answer_event_) return -errno;
  int error = ring_.Open(device_slot() + kOtherSubmissions);
  if (error < 0) return error;
  error = RegisterSlots(queues, reads_device);
  if (error < 0) {
    // Exchange must not wait for what will not come.
    ring_.Close();
    return error;
  }
  StayOn(queues);
  Registry& registry = AllSessions();
  const std::lock_guard lock(registry.mutex);
  registry.sessions[device_.get()] = this;
  return 0;
}

int RingSession::RegisterSlots(std::span<const uint32_t> queues, bool reads_device) {
  for (uint32_t i = 0; i < slots_.size(); i++) {
    Slot& slot = slots_[i];
    slot.queue = static_cast<uint16_t>(queues[i % queues.size()]);
    // The reply's header is the ring's own; JavaScript writes one before the payload all the same.
    const Bytes payload = ReplyOf(i).subspan(kOutHeaderSize);
    slot.vectors = {reinterpret_cast<uint64_t>(&slot.header), sizeof slot.header,
                    reinterpret_cast<uint64_t>(payload.data()), payload.size()};
    static_assert(sizeof(iovec) == 2 * sizeof(uint64_t));
    Command(i, kRegister);
  }
  Poll(wake_.get(), kWake);
  Poll(answer_event_.get(), kAnswer);
  if (reads_device) Poll(device_.get(), kDevice);
  for (int entered; (entered = ring_.Enter(0)) < 0 || ring_.has_prepared();) {
    if (entered < 0 && entered != -EINTR) return entered;
  }
  // A slot that is accepted is not completed before a request comes.
  const io_uring_cqe* completion;
  for (uint32_t i = 0; (completion = ring_.Peek(i)) != nullptr; i++) {
    if (completion->user_data < device_slot() && completion->res < 0) return completion->res;
  }
  return 0;
}

void RingSession::Command(uint32_t slot, uint32_t operation) {
  // The queue has room for all slots at once.
  Submission* submission = ring_.Prepare();
  io_uring_sqe& fields = submission->fields;
  fields.opcode = IORING_OP_URING_CMD;
  fields.fd = device_.get();
  fields.cmd_op = operation;
  fields.user_data = slot;
  if (operation == kRegister) {
    fields.addr = reinterpret_cast<uint64_t>(slots_[slot].vectors.data());
    fields.len = 2;
  }
  CommandArguments arguments = {};
  arguments.queue = slots_[slot].queue;
  if (operation == kCommitAndFetch) arguments.commit_id = slots_[slot].header.commit_id;
  memcpy(submission->bytes + kArgumentsAt, &arguments, sizeof arguments);
}

void RingSession::Poll(int fd, uint64_t what) {
  io_uring_sqe& fields = ring_.Prepare()->fields;
  fields.opcode = IORING_OP_POLL_ADD;
  fields.fd = fd;
  fields.poll32_events = POLLIN;
  fields.user_data = what;
}

void RingSession::Commit(uint32_t slot, size_t reply_length) {
  RingHeader& header = slots_[slot].header;
  memcpy(header.header, ReplyOf(slot).data(), kOutHeaderSize);
  header.payload_size = static_cast<uint32_t>(reply_length - kOutHeaderSize);
  {
    const std::lock_guard lock(mutex_);
    slots_[slot].is_open = false;
  }
  Command(slot, kCommitAndFetch);
}

void RingSession::CommitAnswers() {
  uint64_t count;
  // Nothing to be done about failures: the event is only a hint.
  [[maybe_unused]] const ssize_t length = read(answer_event_.get(), &count, sizeof count);
  std::vector<Answered> answered;
  {
    const std::lock_guard lock(mutex_);
    answered.swap(answered_);
  }
  for (const Answered& answer : answered) Commit(answer.slot, answer.length);
}

bool RingSession::Answer(Fd device, std::span<const uint8_t> reply) {
  Registry& registry = AllSessions();
  const std::lock_guard lock(registry.mutex);
  const auto found = registry.sessions.find(device.number);
  if (found == registry.sessions.end() || reply.size() < kOutHeaderSize) return false;
  RingSession& session = *found->second;
  const std::lock_guard session_lock(session.mutex_);
  const auto unique = Load<uint64_t>(reply.data() + kUniqueAt);
  for (uint32_t i = 0; i < session.slots_.size(); i++) {
    Slot& slot = session.slots_[i];
    if (!slot.is_open || slot.unique != unique) continue;
    if (reply.size() > session.reply_size_) return false;
    // Two answers to one request would be committed twice.
    slot.unique = 0;
    memcpy(session.ReplyOf(i).data(), reply.data(), reply.size());
    session.answered_.push_back({i, reply.size()});
    const uint64_t one = 1;
    return write(session.answer_event_.get(), &one, sizeof one) > 0;
  }
  return false;
}

int RingSession::Exchange(size_t reply_length) {
  if (!ring_.is_open()) return -EBADF;
  if (current_ < device_slot() && (reply_length > 0 || !slots_[current_].takes_reply)) {
    if (!slots_[current_].takes_reply) WriteHeader(current_, 0);
    Commit(current_, std::max(reply_length, kOutHeaderSize));
  } else if (reply_length > 0) {
    const ssize_t written = write(device_.get(), ReplyOf(current_).data(), reply_length);
    if (written < 0 && errno != ENOENT && errno != ENODEV) return kWriteFailed - errno;
  }
  const bool device_was_last = current_ == device_slot();
  current_ = device_slot();
  // Neither side waits for the other to fall silent: a busy ring must not keep FORGET and INTERRUPT
  // in the device for ever.
  if (device_is_ready_ && !device_was_last) {
    if (ring_.has_prepared()) {
      const int error = EnterOnce(0);
      if (error < 0) return error;
    }
    const int length = ReadDevice();
    if (length != kGoOn) return length;
  }
  if (reply_length > 0 && !device_is_ready_) {
    const int error = LookForRequest();
    if (error < 0) return error;
  }
  for (;;) {
    // One call sends the last reply and waits for the next request.
    if (ring_.has_prepared() || (ring_.Peek(0) == nullptr && !device_is_ready_)) {
      const int error = EnterOnce(device_is_ready_ ? 0 : 1);
      if (error < 0) return error;
    }
    io_uring_cqe completion;
    while (ring_.Take(completion)) {
      const int result = Take(completion);
      if (result != kGoOn) return result;
    }
    if (!device_is_ready_) continue;
    const int length = ReadDevice();
    if (length != kGoOn) return length;
  }
}

/** After a reply: sends it, and keeps the CPU from falling asleep while that pays. 0 or -errno. */
int RingSession::LookForRequest() {
  if (!polling_.Begin(nullptr)) return 0;
  do {
    const int error = EnterOnce(0);
    if (error < 0) return error;
  } while (ring_.Peek(0) == nullptr && polling_.GoOn());
  polling_.End(nullptr, ring_.Peek(0) != nullptr);
  return 0;
}

/** 0, also when it has to be tried again; or -errno. */
int RingSession::EnterOnce(unsigned completions) {
  const int error = ring_.Enter(completions);
  // EAGAIN and EBUSY: the kernel is short of memory, or wants completions to be taken first.
  return error == -EINTR || error == -EAGAIN || error == -EBUSY ? 0 : error;
}

/** A request, the end, or kGoOn. */
int RingSession::Take(const io_uring_cqe& completion) {
  switch (completion.user_data) {
    case kWake:
      return -ECANCELED;
    case kAnswer:
      CommitAnswers();
      Poll(answer_event_.get(), kAnswer);
      return kGoOn;
    case kDevice:
      device_is_ready_ = true;
      return kGoOn;
    default:
      break;
  }
  const auto slot = static_cast<uint32_t>(completion.user_data);
  if (completion.res == 0) return Receive(slot);
  // The end of the connection; the device knows which one.
  const int end = ReadDevice();
  if (end != kGoOn) return end;
  // Slots are told of the end a moment before the device is; whoever reads that hears of it.
  return IsEnd(completion.res) ? kGoOn : kWriteFailed + completion.res;
}

/** The reply of a slot without a body. */
void RingSession::WriteHeader(uint32_t slot, int32_t error) {
  const Bytes reply = ReplyOf(slot);
  memset(reply.data(), 0, kOutHeaderSize);
  memcpy(reply.data() + kErrorAt, &error, sizeof error);
  memcpy(reply.data() + kUniqueAt, &slots_[slot].unique, sizeof slots_[slot].unique);
}

/** Puts the request of a slot together. */
int RingSession::Receive(uint32_t index) {
  Slot& slot = slots_[index];
  const RingHeader& header = slot.header;
  const uint32_t length = Load<uint32_t>(header.header);
  const Bytes request = RequestOf(index);
  const size_t arguments_length = length - kInHeaderSize - header.payload_size;
  current_ = index;
  {
    const std::lock_guard lock(mutex_);
    slot.unique = Load<uint64_t>(header.header + kUniqueAt);
    slot.is_open = true;
  }
  const auto opcode = Load<uint32_t>(header.header + kOpcodeAt);
  slot.takes_reply = opcode != kForget && opcode != kBatchForget;
  if (length > request.size() || length < kInHeaderSize + header.payload_size ||
      arguments_length > sizeof header.arguments) {
    // Larger than any request about a tree that cannot be changed: as the device answers those.
    WriteHeader(index, -EIO);
    Commit(index, kOutHeaderSize);
    return kGoOn;
  }
  uint8_t* to = request.data();
  memcpy(to, header.header, kInHeaderSize);
  memcpy(to + kInHeaderSize, header.arguments, arguments_length);
  memcpy(to + kInHeaderSize + arguments_length, ReplyOf(index).data() + kOutHeaderSize,
         header.payload_size);
  return static_cast<int>(index) * kSlotUnit + static_cast<int>(length);
}

/** A request from the device, its end, or kGoOn when there is nothing now. */
int RingSession::ReadDevice() {
  const Bytes request = RequestOf(device_slot());
  for (;;) {
    const ssize_t length = read(device_.get(), request.data(), request.size());
    if (length >= 0) {
      current_ = device_slot();
      return static_cast<int>(device_slot()) * kSlotUnit + static_cast<int>(length);
    }
    if (errno == EINTR || errno == ENOENT) continue;
    if (errno != EAGAIN) return -errno;
    if (device_is_ready_) Poll(device_.get(), kDevice);
    device_is_ready_ = false;
    return kGoOn;
  }
}

int RingSession::ReadObject(Fd fd, off_t offset, size_t length, size_t at) const {
  return device_ ? composefs::ReadObject(fd, offset, ReplyOf(current_).subspan(at, length))
                 : -EBADF;
}

void RingSession::Close() {
  if (!device_) return;
  {
    Registry& registry = AllSessions();
    const std::lock_guard lock(registry.mutex);
    registry.sessions.erase(device_.get());
  }
  ring_.Close();
  ChangeKind(device_.get(), Kind::kSessionDevice, Kind::kNone);
  device_.Reset();
  wake_.Reset();
  answer_event_.Reset();
}

}  // namespace composefs
