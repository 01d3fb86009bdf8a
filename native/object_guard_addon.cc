#include "object_guard_addon.h"

#include <iterator>
#include <memory>
#include <span>
#include <utility>

#include "js.h"
#include "object_guard.h"

namespace composefs::guard {
namespace {

using js::Arguments;
using js::kTwoTo53;
using js::ToDescriptor;
using js::ToValue;

constexpr size_t kFactWords = std::tuple_size_v<sys::ObjectFacts>;
/** Algorithm and digest. */
constexpr size_t kActualSize = 1 + sha2::kDigestMax;

sys::ObjectFacts CopyFacts(std::span<const int64_t> words) {
  sys::ObjectFacts facts;
  std::copy_n(words.begin(), facts.size(), facts.begin());
  return facts;
}

/** Arrays and policy, checked once: a call takes three numbers. */
struct ObjectVerifier {
  std::span<const uint8_t> image;
  std::span<const int64_t> facts;
  std::span<uint8_t> actual;
  Engine engine;
  int64_t limit;
  js::Pins<3> arrays;
};

void FinalizeVerifier(napi_env env, void* memory, void*) {
  const std::unique_ptr<ObjectVerifier> verifier(static_cast<ObjectVerifier*>(memory));
  verifier->arrays.Release(env);
}

napi_value ConstructVerifier(napi_env env, napi_callback_info info) {
  if (!js::IsConstruction(env, info, "ObjectVerifier")) return nullptr;
  Arguments args(env, info);
  const std::span<const uint8_t> image = args.Bytes(0);
  const std::span<const int64_t> facts = args.Words(1);
  const std::span<uint8_t> actual = args.Bytes(2);
  const auto engine = static_cast<Engine>(args.Integer(3, 0, 2));
  const auto limit = static_cast<int64_t>(args.Integer(4, 0, kTwoTo53));
  if (args.ok() && facts.size() < kFactWords) args.FailRange(1);
  if (args.ok() && actual.size() < kActualSize) args.FailRange(2);
  if (!args.ok()) return nullptr;
  auto verifier =
      std::make_unique<ObjectVerifier>(ObjectVerifier{image, facts, actual, engine, limit, {}});
  if (!verifier->arrays.Add(env, args[0]) || !verifier->arrays.Add(env, args[1]) ||
      !verifier->arrays.Add(env, args[2]) ||
      napi_wrap(env, args.self(), verifier.get(), FinalizeVerifier, nullptr, nullptr) != napi_ok) {
    verifier->arrays.Release(env);
    napi_throw_type_error(env, nullptr, "the ObjectVerifier cannot be made");
    return nullptr;
  }
  verifier.release();
  return args.self();
}

/** The receiver is an ObjectVerifier for sure: see ReadCall in addon.cc. */
napi_value VerifyCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  void* memory = nullptr;
  if (!args.ok() || napi_unwrap(env, args.self(), &memory) != napi_ok) {
    napi_throw_type_error(env, nullptr, "the receiver is not an ObjectVerifier");
    return nullptr;
  }
  const auto& verifier = *static_cast<const ObjectVerifier*>(memory);
  const double fd = args.Number(0);
  verity::Digest expected, actual;
  expected.algorithm = static_cast<uint8_t>(args.Integer(1, 1, 2));
  const size_t size = verity::ComposefsParameters(expected.algorithm).digest_size();
  const double last = static_cast<double>(verifier.image.size()) - static_cast<double>(size);
  const auto at = static_cast<size_t>(args.Integer(2, 0, last));
  if (!args.ok()) return nullptr;
  std::copy_n(verifier.image.data() + at, size, expected.bytes.begin());
  const int64_t result = Verify(ToDescriptor(fd), CopyFacts(verifier.facts), expected,
                                verifier.engine, verifier.limit, actual);
  verifier.actual[0] = actual.algorithm;
  std::copy(actual.bytes.begin(), actual.bytes.end(), verifier.actual.begin() + 1);
  return ToValue(env, static_cast<double>(result));
}

class MeasureWork : public js::Work {
 public:
  MeasureWork(FdGuard fd, const sys::ObjectFacts& facts, uint32_t algorithm,
              std::span<int64_t> progress)
      : fd_(std::move(fd)), facts_(facts), algorithm_(algorithm), progress_(progress) {}
  bool Pin(napi_env env, napi_value array) { return pins_.Add(env, array); }
  void Run() override {
    const verity::Progress progress = {std::atomic_ref(progress_[0]),
                                       std::atomic_ref(progress_[1])};
    status_ = fd_ ? Measure(fd_.get(), facts_, algorithm_, progress) : -EBADF;
    fd_.Reset();
  }
  napi_value Result(napi_env env) override {
    pins_.Release(env);
    return ToValue(env, static_cast<double>(status_));
  }

 private:
  FdGuard fd_;
  sys::ObjectFacts facts_;
  uint32_t algorithm_;
  std::span<int64_t> progress_;
  js::Pins<1> pins_;
  int64_t status_ = 0;
};

napi_value MeasureCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const double fd = args.Number(0);
  const std::span<const int64_t> facts = args.Words(1);
  const auto algorithm = static_cast<uint32_t>(args.Integer(2, 1, 2));
  const std::span<int64_t> progress = args.Words(3);
  if (args.ok() && facts.size() < kFactWords) args.FailRange(1);
  if (args.ok() && progress.size() < 2) args.FailRange(3);
  if (!args.ok()) return nullptr;
  // The work's own descriptor: the caller may close its one before a thread gets to it.
  const Fd object = ToDescriptor(fd);
  FdGuard copy(IsObject(object) ? fcntl(object.number, F_DUPFD_CLOEXEC, 0) : -1);
  auto work = std::make_unique<MeasureWork>(std::move(copy), CopyFacts(facts), algorithm, progress);
  if (!work->Pin(env, args[3])) return nullptr;
  return js::Work::Start(env, std::move(work));
}

napi_value ForgetCall(napi_env env, napi_callback_info) {
  return ToValue(env, static_cast<double>(Forget()));
}

}  // namespace

void Register(napi_env env, napi_value exports) {
  const napi_property_descriptor methods[] = {js::Method("verify", VerifyCall)};
  napi_value verifier = nullptr;
  napi_define_class(env, "ObjectVerifier", NAPI_AUTO_LENGTH, ConstructVerifier, nullptr,
                    std::size(methods), methods, &verifier);
  const napi_property_descriptor properties[] = {
      js::Method("measureObject", MeasureCall),
      js::Method("forgetObjects", ForgetCall),
      {"ObjectVerifier", nullptr, nullptr, nullptr, nullptr, verifier, napi_enumerable, nullptr}};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::guard
