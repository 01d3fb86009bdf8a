// The addon's registration and argument checks, and nothing else. A wrong kind of argument throws
// TypeError, a number or length out of range RangeError, and a number that is no descriptor of the
// right kind is answered with -EBADF.

#include <napi.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>

#include "datagram.h"
#include "file_table_addon.h"
#include "files_addon.h"
#include "kernel_mount_addon.h"
#include "object_guard_addon.h"
#include "overlay_mount_addon.h"
#include "program_pages.h"
#include "ring_session_addon.h"
#include "session.h"
#include "sys.h"
#include "verity_addon.h"

namespace composefs {
namespace {

constexpr double kTwoTo53 = 9007199254740992.0;
constexpr size_t kBufferMin = 8192;
constexpr size_t kBufferMax = size_t{1} << 30;  // So that every byte count is an int32.
constexpr size_t kStringMax = 65535;

bool IsInteger(double number, double min, double max) {
  return number >= min && number <= max && number == std::trunc(number);  // False for NaN.
}

Fd ToDescriptor(double number) {
  if (number < 0) return {kNoFd};
  return {IsInteger(number, 0, kTableSize - 1) ? static_cast<int>(number) : kBadFd};
}

/** The memory of a typed array, also over a SharedArrayBuffer. A detached one has length 0. */
template <typename Element>
bool GetArray(napi_env env, napi_value value, std::span<Element>& array) {
  constexpr bool is_bytes = std::is_same_v<Element, uint8_t>;
  bool is_typed_array = false;
  napi_typedarray_type kind;
  size_t length = 0;
  void* memory = nullptr;
  if (napi_is_typedarray(env, value, &is_typed_array) != napi_ok || !is_typed_array ||
      napi_get_typedarray_info(env, value, &kind, &length, &memory, nullptr, nullptr) != napi_ok ||
      kind != (is_bytes ? napi_uint8_array : napi_bigint64_array)) {
    return false;
  }
  array = {static_cast<Element*>(memory), length};
  return true;
}

/**
 * Reads the arguments of one call. The first wrong one leaves a JavaScript exception pending, after
 * which every getter gives a harmless value and the callback must return without acting.
 */
class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info) {}
  bool failed() const { return failed_; }

  double Integer(size_t i, double min, double max) {
    const double number = Number(i);
    if (failed_ || IsInteger(number, min, max)) return number;
    Fail<Napi::RangeError>(i, "an integer in its range");
    return 0;
  }
  void Get(size_t i, Fd& fd) { fd = ToDescriptor(Number(i)); }
  void Get(size_t i, uint32_t& word) { word = static_cast<uint32_t>(Integer(i, 0, UINT32_MAX)); }
  void Get(size_t i, int64_t& number) {
    number = static_cast<int64_t>(Integer(i, -kTwoTo53, kTwoTo53));
  }
  void Get(size_t i, std::string& text) {
    size_t length = 0;
    if (failed_) return;
    if (napi_get_value_string_utf8(info_.Env(), info_[i], nullptr, 0, &length) != napi_ok) {
      return Fail<Napi::TypeError>(i, "a string");
    }
    if (length > kStringMax) return Fail<Napi::RangeError>(i, "at most 65535 bytes long");
    text = info_[i].As<Napi::String>().Utf8Value();
    if (text.find('\0') != std::string::npos) Fail<Napi::RangeError>(i, "a string without NUL");
  }
  template <typename Element>
  void Get(size_t i, std::span<Element>& array) {
    if (failed_ || GetArray(info_.Env(), info_[i], array)) return;
    Fail<Napi::TypeError>(i, sizeof(Element) == 1 ? "a Uint8Array" : "a BigInt64Array");
  }
  template <typename Error>
  void Fail(size_t i, const char* expected) {
    failed_ = true;
    const std::string message = "argument " + std::to_string(i + 1) + " must be " + expected;
    Error::New(info_.Env(), message).ThrowAsJavaScriptException();
  }

 private:
  double Number(size_t i) {
    double number = 0;
    if (!failed_ && napi_get_value_double(info_.Env(), info_[i], &number) != napi_ok) {
      Fail<Napi::TypeError>(i, "a number");
    }
    return number;
  }

  const Napi::CallbackInfo& info_;
  bool failed_ = false;
};

template <typename Result, typename... Parameters>
Napi::Value Call(const Napi::CallbackInfo& info, Result (*function)(Parameters...)) {
  Args args(info);
  std::tuple<std::remove_cvref_t<Parameters>...> values;
  size_t i = 0;
  std::apply([&](auto&... value) { (args.Get(i++, value), ...); }, values);
  if (args.failed()) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(std::apply(function, values)));
}

/** The callback for a function of sys.h whose parameter types say all that is to be checked. */
template <auto Function>
Napi::Value Plain(const Napi::CallbackInfo& info) {
  return Call(info, Function);
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  std::array<int, 2> pair;
  const int error = sys::SocketPair(pair);
  if (error < 0) return Napi::Number::New(info.Env(), error);
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, pair[0]);
  result.Set(1u, pair[1]);
  return result;
}

template <int (*Open)(Fd, std::string_view, sys::ObjectFacts&)>
Napi::Value OpenObject(const Napi::CallbackInfo& info) {
  Args args(info);
  Fd basedir;
  Bytes path;
  std::span<int64_t> words;
  sys::ObjectFacts facts;
  args.Get(0, basedir);
  args.Get(1, path);
  const auto length = static_cast<size_t>(args.Integer(2, 0, static_cast<double>(path.size())));
  args.Get(3, words);
  if (!args.failed() && words.size() < facts.size()) args.Fail<Napi::RangeError>(3, "longer");
  if (args.failed()) return {};
  const int fd = Open(basedir, {reinterpret_cast<const char*>(path.data()), length}, facts);
  if (fd >= 0) std::copy(facts.begin(), facts.end(), words.begin());
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value Syslog(const Napi::CallbackInfo& info) {
  Args args(info);
  std::string line;
  const int priority = static_cast<int>(args.Integer(0, 0, 7));
  args.Get(1, line);
  if (!args.failed()) sys::Syslog(priority, line);
  return info.Env().Undefined();
}

// The Session class uses the plain C interface: a request is one call, and every layer shows.

/** A session and the references that keep its buffers alive. */
struct Wrapped {
  Session session;
  std::array<napi_ref, 2> buffers;

  void ReleaseBuffers(napi_env env) {
    for (napi_ref& buffer : buffers) {
      if (buffer != nullptr) napi_delete_reference(env, buffer);
      buffer = nullptr;
    }
  }
};

std::nullptr_t ThrowType(napi_env env, const char* message) {
  napi_throw_type_error(env, nullptr, message);
  return nullptr;
}

std::nullptr_t ThrowRange(napi_env env, const char* message) {
  napi_throw_range_error(env, nullptr, message);
  return nullptr;
}

napi_value ToValue(napi_env env, int number) {
  napi_value value = nullptr;
  napi_create_int32(env, number, &value);
  return value;
}

/**
 * The session of a method call, with the arguments in `numbers`; nullptr with a TypeError pending
 * if one is no number. The receiver is a Session for sure: napi_define_class gives its methods a V8
 * signature, which refuses every other object as `Illegal invocation`. (A type tag would say the
 * same for 90 ns a call; test/unit/native-boundary.test.ts proves that none is needed.)
 */
template <size_t Count>
Wrapped* ReadCall(napi_env env, napi_callback_info info, std::array<double, Count>& numbers) {
  size_t count = Count;
  std::array<napi_value, Count> values;
  napi_value self;
  void* wrapped = nullptr;
  if (napi_get_cb_info(env, info, &count, values.data(), &self, nullptr) != napi_ok ||
      napi_unwrap(env, self, &wrapped) != napi_ok) {
    return ThrowType(env, "the receiver is not a Session");
  }
  for (size_t i = 0; i < Count; i++) {
    if (napi_get_value_double(env, values[i], &numbers[i]) != napi_ok) {
      return ThrowType(env, "the arguments must be numbers");
    }
  }
  return static_cast<Wrapped*>(wrapped);
}

template <int (Session::*Method)(size_t)>
napi_value SendReply(napi_env env, napi_callback_info info) {
  std::array<double, 1> length;
  Wrapped* wrapped = ReadCall(env, info, length);
  if (wrapped == nullptr) return nullptr;
  Session& session = wrapped->session;
  if (!IsInteger(length[0], 0, static_cast<double>(session.reply_capacity()))) {
    return ThrowRange(env, "replyLength must lie in the reply buffer");
  }
  return ToValue(env, (session.*Method)(static_cast<size_t>(length[0])));
}

napi_value ReplyOn(napi_env env, napi_callback_info info) {
  std::array<double, 2> numbers;
  Wrapped* wrapped = ReadCall(env, info, numbers);
  if (wrapped == nullptr) return nullptr;
  const auto [device, length] = numbers;
  Session& session = wrapped->session;
  if (!IsInteger(length, 0, static_cast<double>(session.reply_capacity()))) {
    return ThrowRange(env, "replyLength must lie in the reply buffer");
  }
  return ToValue(env, session.ReplyOn(ToDescriptor(device), static_cast<size_t>(length)));
}

napi_value ReadObject(napi_env env, napi_callback_info info) {
  std::array<double, 4> numbers;
  Wrapped* wrapped = ReadCall(env, info, numbers);
  if (wrapped == nullptr) return nullptr;
  const auto [fd, offset, length, at] = numbers;
  Session& session = wrapped->session;
  const auto capacity = static_cast<double>(session.reply_capacity());
  if (!IsInteger(offset, 0, kTwoTo53) || !IsInteger(length, 0, capacity) ||
      !IsInteger(at, 0, capacity - length)) {
    return ThrowRange(env, "the bytes must lie in the reply buffer and offset below 2^53");
  }
  return ToValue(env, session.ReadObject(ToDescriptor(fd), static_cast<off_t>(offset),
                                         static_cast<size_t>(length), static_cast<size_t>(at)));
}

template <void (Session::*Method)(int)>
napi_value SetPolling(napi_env env, napi_callback_info info) {
  std::array<double, 1> microseconds;
  Wrapped* wrapped = ReadCall(env, info, microseconds);
  if (wrapped == nullptr) return nullptr;
  if (!IsInteger(microseconds[0], 0, 1000)) {
    return ThrowRange(env, "microseconds must be an integer from 0 to 1000");
  }
  (wrapped->session.*Method)(static_cast<int>(microseconds[0]));
  return nullptr;
}

napi_value JoinCrew(napi_env env, napi_callback_info info) {
  std::array<double, 1> wake;
  Wrapped* wrapped = ReadCall(env, info, wake);
  if (wrapped == nullptr) return nullptr;
  const int wake_fd = ToDescriptor(wake[0]).number;
  return ToValue(env, KindOf(wake_fd) == Kind::kWake ? wrapped->session.Join(wake_fd) : -EBADF);
}

napi_value CloseSession(napi_env env, napi_callback_info info) {
  std::array<double, 0> nothing;
  Wrapped* wrapped = ReadCall(env, info, nothing);
  if (wrapped == nullptr) return nullptr;
  wrapped->session.Close();
  wrapped->ReleaseBuffers(env);
  return nullptr;
}

/** Runs at garbage collection, and for every living session when its environment ends. */
void FinalizeSession(napi_env env, void* memory, void*) {
  std::unique_ptr<Wrapped> wrapped(static_cast<Wrapped*>(memory));
  wrapped->ReleaseBuffers(env);
}

napi_value ConstructSession(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value args[4], self, new_target = nullptr;
  if (napi_get_cb_info(env, info, &count, args, &self, nullptr) != napi_ok ||
      napi_get_new_target(env, info, &new_target) != napi_ok || new_target == nullptr) {
    return ThrowType(env, "Session must be called with new");
  }
  double device, wake;
  Bytes request, reply;
  if (napi_get_value_double(env, args[0], &device) != napi_ok ||
      napi_get_value_double(env, args[3], &wake) != napi_ok) {
    return ThrowType(env, "the descriptors must be numbers");
  }
  if (!GetArray(env, args[1], request) || !GetArray(env, args[2], reply)) {
    return ThrowType(env, "the buffers must be of type Uint8Array");
  }
  for (const Bytes& buffer : {request, reply}) {
    if (buffer.size() < kBufferMin || buffer.size() > kBufferMax) {
      return ThrowRange(env, "the buffers must have 8192 bytes to 1 GiB");
    }
  }
  const int device_fd = ToDescriptor(device).number, wake_fd = ToDescriptor(wake).number;
  if (KindOf(wake_fd) != Kind::kWake) return ThrowRange(env, "wakeFd is not of createWake");
  FdGuard wake_copy(fcntl(wake_fd, F_DUPFD_CLOEXEC, 0));
  if (!wake_copy) return ThrowRange(env, "no descriptor is left for a copy of wakeFd");
  if (!ChangeKind(device_fd, Kind::kDevice, Kind::kSessionDevice)) {
    return ThrowRange(env, "deviceFd is not a device descriptor, or has a session");
  }
  auto wrapped = std::unique_ptr<Wrapped>(
      new Wrapped{{FdGuard(device_fd), request, reply, std::move(wake_copy)}, {}});
  if (napi_create_reference(env, args[1], 1, &wrapped->buffers[0]) != napi_ok ||
      napi_create_reference(env, args[2], 1, &wrapped->buffers[1]) != napi_ok ||
      napi_wrap(env, self, wrapped.get(), FinalizeSession, nullptr, nullptr) != napi_ok) {
    wrapped->ReleaseBuffers(env);
    return ThrowType(env, "the session cannot be made");
  }
  wrapped.release();
  return self;
}

Napi::Value SessionClass(Napi::Env env) {
  const auto method = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name,    nullptr, callback,     nullptr,
                                    nullptr, nullptr, napi_default, nullptr};
  };
  const napi_property_descriptor methods[] = {
      method("exchange", SendReply<&Session::Exchange>),
      method("reply", SendReply<&Session::Reply>),
      method("replyOn", ReplyOn),
      method("readObject", ReadObject),
      method("setPolling", SetPolling<&Session::SetPolling>),
      method("pollAdaptively", SetPolling<&Session::PollAdaptively>),
      method("join", JoinCrew),
      method("close", CloseSession)};
  napi_value result = nullptr;
  napi_define_class(env, "Session", NAPI_AUTO_LENGTH, ConstructSession, nullptr, std::size(methods),
                    methods, &result);
  return Napi::Value(env, result);
}

template <Napi::Value (*Callback)(const Napi::CallbackInfo&)>
void Export(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<Callback>(exports.Env(), name));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Session", SessionClass(env));
  Export<Plain<sys::CreateWake>>(exports, "createWake");
  Export<Plain<sys::Wake>>(exports, "wake");
  Export<Plain<sys::OpenDevice>>(exports, "openDevice");
  Export<Plain<sys::CloneDevice>>(exports, "cloneDevice");
  Export<Plain<sys::Duplicate>>(exports, "duplicate");
  Export<Plain<sys::AdoptDevice>>(exports, "adoptDevice");
  Export<Plain<sys::IsUnmounted>>(exports, "isUnmounted");
  Export<Plain<sys::CloseDescriptor>>(exports, "closeDescriptor");
  Export<Plain<sys::Mount>>(exports, "mount");
  Export<Plain<sys::Unmount>>(exports, "unmount");
  Export<SocketPair>(exports, "socketPair");
  Export<Plain<sys::ReceiveDescriptor>>(exports, "receiveDescriptor");
  Export<Plain<sys::SendDatagram>>(exports, "sendDatagram");
  Export<Plain<sys::OpenBasedir>>(exports, "openBasedir");
  Export<OpenObject<sys::OpenObject>>(exports, "openObject");
  Export<OpenObject<sys::OpenObjectByWalk>>(exports, "openObjectByWalk");
  Export<Plain<sys::Seek>>(exports, "seek");
  Export<Plain<sys::MeasureVerity>>(exports, "measureVerity");
  Export<Plain<sys::OpenBacking>>(exports, "openBacking");
  Export<Plain<sys::CloseBacking>>(exports, "closeBacking");
  Export<Plain<sys::ReleaseProgramPages>>(exports, "releaseProgramPages");
  Export<Plain<sys::UseHugePages>>(exports, "useHugePages");
  Export<Syslog>(exports, "syslog");
  verity::Register(env, exports);
  guard::Register(env, exports);
  files::Register(env, exports);
  files::RegisterTable(env, exports);
  overlay::Register(env, exports);
  kernel::Register(env, exports);
  ring::Register(env, exports);
  return exports;
}

NODE_API_MODULE(composefs_native, Init)

}  // namespace
}  // namespace composefs
