// Argument checks of RingSession. See addon.cc for what is thrown.

#include "ring_session_addon.h"

#include <iterator>
#include <memory>
#include <vector>

#include "js.h"
#include "ring_session.h"

namespace composefs::ring {

namespace {

using js::Arguments;
using js::ToDescriptor;
using js::ToValue;

constexpr double kReplyMin = 8192 + 16;
constexpr double kRequestMax = RingSession::kSlotUnit - 1;
constexpr double kBufferMax = 1 << 30;  // So that every byte count is an int32.

/** A session and what keeps its buffers alive. */
struct Wrapped {
  RingSession session;
  js::Pins<2> buffers;
};

Wrapped* Unwrap(napi_env env, const Arguments& args) {
  void* wrapped = nullptr;
  if (!args.ok() || napi_unwrap(env, args.self(), &wrapped) != napi_ok) return nullptr;
  return static_cast<Wrapped*>(wrapped);
}

napi_value OpenCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Wrapped* wrapped = Unwrap(env, args);
  const std::span<const int64_t> words = args.Words(0);
  const bool reads_device = args.Integer(1, 0, 1) == 1;
  std::vector<uint32_t> queues;
  if (!args.ok() || wrapped == nullptr) return nullptr;
  if (words.empty() || words.size() > wrapped->session.queue_capacity()) args.FailRange(0);
  for (const int64_t word : words) {
    if (word < 0 || word > UINT16_MAX) args.FailRange(0);
    if (!args.ok()) return nullptr;
    queues.push_back(static_cast<uint32_t>(word));
  }
  if (!args.ok()) return nullptr;
  return ToValue(env, wrapped->session.Open(queues, reads_device));
}

napi_value ExchangeCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Wrapped* wrapped = Unwrap(env, args);
  if (wrapped == nullptr) return nullptr;
  RingSession& session = wrapped->session;
  const double length = args.Integer(0, 0, static_cast<double>(session.reply_capacity()));
  if (length > 0 && length < 16) args.FailRange(0);
  if (!args.ok()) return nullptr;
  return ToValue(env, session.Exchange(static_cast<size_t>(length)));
}

napi_value ReadObjectCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Wrapped* wrapped = Unwrap(env, args);
  if (wrapped == nullptr) return nullptr;
  const auto capacity = static_cast<double>(wrapped->session.reply_capacity());
  const double fd = args.Number(0);
  const double offset = args.Integer(1, 0, js::kTwoTo53);
  const double length = args.Integer(2, 0, capacity);
  const double at = args.Integer(3, 0, capacity - length);
  if (!args.ok()) return nullptr;
  return ToValue(env,
                 wrapped->session.ReadObject(ToDescriptor(fd), static_cast<off_t>(offset),
                                             static_cast<size_t>(length), static_cast<size_t>(at)));
}

template <void (RingSession::*Method)(int)>
napi_value PollingCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  Wrapped* wrapped = Unwrap(env, args);
  if (wrapped == nullptr) return nullptr;
  const auto microseconds = static_cast<int>(args.Integer(0, 0, 1000));
  if (args.ok()) (wrapped->session.*Method)(microseconds);
  return nullptr;
}

napi_value CloseCall(napi_env env, napi_callback_info info) {
  const Arguments args(env, info);
  Wrapped* wrapped = Unwrap(env, args);
  if (wrapped == nullptr) return nullptr;
  wrapped->session.Close();
  wrapped->buffers.Release(env);
  return nullptr;
}

/** Runs at garbage collection, and for every living session when its environment ends. */
void Finalize(napi_env env, void* memory, void*) {
  const std::unique_ptr<Wrapped> wrapped(static_cast<Wrapped*>(memory));
  wrapped->session.Close();
  wrapped->buffers.Release(env);
}

napi_value Construct(napi_env env, napi_callback_info info) {
  if (!js::IsConstruction(env, info, "RingSession")) return nullptr;
  Arguments args(env, info);
  const double device = args.Number(0);
  const Bytes requests = args.Bytes(1), replies = args.Bytes(2);
  const auto slots = static_cast<uint32_t>(args.Integer(3, 2, RingSession::kSlotsMax));
  const double wake = args.Number(4);
  if (!args.ok()) return nullptr;
  const double request_size = static_cast<double>(requests.size()) / slots;
  const double reply_size = static_cast<double>(replies.size()) / slots;
  if (request_size < 8192 || request_size > kRequestMax) args.FailRange(1);
  if (reply_size < kReplyMin || reply_size > kBufferMax) args.FailRange(2);
  const int device_fd = ToDescriptor(device).number, wake_fd = ToDescriptor(wake).number;
  if (KindOf(wake_fd) != Kind::kWake) args.FailRange(4);
  FdGuard wake_copy(fcntl(wake_fd, F_DUPFD_CLOEXEC, 0));
  if (!wake_copy) args.FailRange(4);
  if (!args.ok()) return nullptr;
  if (!ChangeKind(device_fd, Kind::kDevice, Kind::kSessionDevice)) {
    args.FailRange(0);
    return nullptr;
  }
  auto wrapped = std::unique_ptr<Wrapped>(
      new Wrapped{{FdGuard(device_fd), std::move(wake_copy), requests, replies, slots}, {}});
  if (!wrapped->buffers.Add(env, args[1]) || !wrapped->buffers.Add(env, args[2]) ||
      napi_wrap(env, args.self(), wrapped.get(), Finalize, nullptr, nullptr) != napi_ok) {
    wrapped->buffers.Release(env);
    napi_throw_type_error(env, nullptr, "the session cannot be made");
    return nullptr;
  }
  return wrapped.release() != nullptr ? args.self() : nullptr;
}

napi_value ProbeCall(napi_env env, napi_callback_info) {
  return ToValue(env, RingSession::Probe());
}

}  // namespace

void Register(napi_env env, napi_value exports) {
  const napi_property_descriptor methods[] = {
      js::Method("open", OpenCall),
      js::Method("exchange", ExchangeCall),
      js::Method("readObject", ReadObjectCall),
      js::Method("setPolling", PollingCall<&RingSession::SetPolling>),
      js::Method("pollAdaptively", PollingCall<&RingSession::PollAdaptively>),
      js::Method("close", CloseCall)};
  napi_value session = nullptr;
  napi_define_class(env, "RingSession", NAPI_AUTO_LENGTH, Construct, nullptr, std::size(methods),
                    methods, &session);
  const napi_property_descriptor properties[] = {
      js::Method("probeRing", ProbeCall),
      {"RingSession", nullptr, nullptr, nullptr, nullptr, session, napi_enumerable, nullptr}};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::ring
