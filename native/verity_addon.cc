// The JavaScript side of verity.h: argument checks, work for the thread pool, the BlockHasher
// class. Pieces of work own all their memory, so that no typed array can be detached below them.

#include "verity_addon.h"

#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "verity.h"

namespace composefs::verity {
namespace {

constexpr double kTwoTo53 = 9007199254740992.0;
constexpr size_t kPathsMax = size_t{1} << 20;
constexpr size_t kRangeMax = size_t{1} << 26;
constexpr size_t kStatusSize = 8;

/**
 * The arguments of one call. The first wrong one leaves an exception pending, after which every
 * getter gives a harmless value and the callback must return without acting.
 */
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = values_.size();
    ok_ = napi_get_cb_info(env, info, &count, values_.data(), &self_, nullptr) == napi_ok;
  }
  bool ok() const { return ok_; }
  napi_value self() const { return self_; }
  napi_value operator[](size_t i) const { return values_[i]; }

  double Number(size_t i) {
    double number = 0;
    if (ok_ && napi_get_value_double(env_, values_[i], &number) != napi_ok) Fail(i, "a number");
    return number;
  }
  double Integer(size_t i, double min, double max) {
    const double number = Number(i);
    if (!ok_ || (number >= min && number <= max && number == std::trunc(number))) return number;
    FailRange(i);
    return min;
  }
  /** Also over a SharedArrayBuffer. A detached array has length 0. */
  std::span<uint8_t> Bytes(size_t i) {
    bool is_array = false;
    napi_typedarray_type kind;
    size_t length = 0;
    void* memory = nullptr;
    if (!ok_) return {};
    if (napi_is_typedarray(env_, values_[i], &is_array) != napi_ok || !is_array ||
        napi_get_typedarray_info(env_, values_[i], &kind, &length, &memory, nullptr, nullptr) !=
            napi_ok ||
        kind != napi_uint8_array) {
      Fail(i, "a Uint8Array");
      return {};
    }
    return {static_cast<uint8_t*>(memory), length};
  }
  /** Algorithm, block size, salt and variant, four arguments from `i` on. */
  Parameters GetParameters(size_t i, double block_min) {
    const auto number = static_cast<uint8_t>(Integer(i, 1, 2));
    const auto block_size = static_cast<size_t>(Integer(i + 1, block_min, kBlockMax));
    if (ok_ && (block_size & (block_size - 1)) != 0) FailRange(i + 1);
    const std::span<const uint8_t> salt = Bytes(i + 2);
    if (salt.size() > kSaltMax) FailRange(i + 2);
    const auto variants = sha2::ImplementationsOf(number == 2 ? sha2::kSha512 : sha2::kSha256);
    const double variant = Integer(i + 3, 0, static_cast<double>(variants.size() - 1));
    if (!ok_) return {};
    return MakeParameters(number, block_size, salt, variants[static_cast<size_t>(variant)]);
  }
  void Fail(size_t i, const char* expected) {
    if (!ok_) return;
    ok_ = false;
    const std::string message = "argument " + std::to_string(i + 1) + " must be " + expected;
    napi_throw_type_error(env_, nullptr, message.c_str());
  }
  void FailRange(size_t i) {
    if (!ok_) return;
    ok_ = false;
    const std::string message = "argument " + std::to_string(i + 1) + " is out of its range";
    napi_throw_range_error(env_, nullptr, message.c_str());
  }

 private:
  napi_env env_;
  std::array<napi_value, 7> values_;
  napi_value self_ = nullptr;
  bool ok_ = false;
};

napi_value ToValue(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

napi_value ToBytes(napi_env env, std::span<const uint8_t> bytes) {
  void* memory = nullptr;
  napi_value buffer = nullptr, array = nullptr;
  if (napi_create_arraybuffer(env, bytes.size(), &memory, &buffer) != napi_ok) return nullptr;
  if (!bytes.empty()) memcpy(memory, bytes.data(), bytes.size());
  napi_create_typedarray(env, napi_uint8_array, bytes.size(), buffer, 0, &array);
  return array;
}

/** A piece of work for libuv's thread pool and the promise of its result. */
class Work {
 public:
  virtual ~Work() = default;
  virtual void Run() = 0;  // In a pool thread.
  virtual napi_value Result(napi_env env) = 0;

  /** The promise; or nullptr with an exception pending. */
  static napi_value Start(napi_env env, std::unique_ptr<Work> work) {
    napi_value promise = nullptr, name = nullptr;
    if (napi_create_string_utf8(env, "composefs", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_promise(env, &work->deferred_, &promise) != napi_ok ||
        napi_create_async_work(env, nullptr, name, Execute, Complete, work.get(), &work->work_) !=
            napi_ok ||
        napi_queue_async_work(env, work->work_) != napi_ok) {
      napi_throw_error(env, nullptr, "the thread pool takes no work");
      return nullptr;
    }
    work.release();  // Complete owns it.
    return promise;
  }

 private:
  static void Execute(napi_env, void* work) { static_cast<Work*>(work)->Run(); }
  static void Complete(napi_env env, napi_status status, void* memory) {
    const std::unique_ptr<Work> work(static_cast<Work*>(memory));
    napi_delete_async_work(env, work->work_);
    // Cancelled means that the environment ends, where no JavaScript runs any more.
    if (status == napi_cancelled) return;
    napi_value result = work->Result(env);
    if (result == nullptr) result = ToValue(env, -ENOMEM);
    napi_resolve_deferred(env, work->deferred_, result);
  }

  napi_async_work work_ = nullptr;
  napi_deferred deferred_ = nullptr;
};

class PathsWork : public Work {
 public:
  PathsWork(const Parameters& parameters, std::span<const uint8_t> paths, size_t limit)
      : parameters_(parameters), paths_(paths.begin(), paths.end()), limit_(limit) {}
  void Run() override { files_ = MeasurePaths(parameters_, paths_, limit_); }
  napi_value Result(napi_env env) override {
    std::vector<uint8_t> records(files_.size() * (kStatusSize + sha2::kDigestMax));
    uint8_t* at = records.data();
    for (const Measured& file : files_) {
      memcpy(at, &file.status, kStatusSize);
      memcpy(at + kStatusSize, file.digest.data(), sha2::kDigestMax);
      at += kStatusSize + sha2::kDigestMax;
    }
    return ToBytes(env, records);
  }

 private:
  Parameters parameters_;
  std::vector<uint8_t> paths_;
  size_t limit_;
  std::vector<Measured> files_;
};

class RangeWork : public Work {
 public:
  RangeWork(const Parameters& parameters, FdGuard fd, off_t offset, size_t length)
      : parameters_(parameters), fd_(std::move(fd)), offset_(offset), length_(length) {}
  void Run() override {
    status_ = fd_ ? HashRange(parameters_, fd_.get(), offset_, length_, leaves_) : -EBADF;
    fd_.Reset();
  }
  napi_value Result(napi_env env) override {
    return status_ < 0 ? ToValue(env, static_cast<double>(status_)) : ToBytes(env, leaves_);
  }

 private:
  Parameters parameters_;
  FdGuard fd_;
  off_t offset_;
  size_t length_;
  int64_t status_ = 0;
  std::vector<uint8_t> leaves_;
};

napi_value MeasurePathsCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const std::span<const uint8_t> paths = args.Bytes(0);
  if (args.ok() && (paths.size() > kPathsMax || paths.empty() || paths.back() != 0)) {
    args.FailRange(0);
  }
  const Parameters parameters = args.GetParameters(1, kBlockMin);
  const double limit = args.Integer(5, 0, kTwoTo53);
  if (!args.ok()) return nullptr;
  return Work::Start(env,
                     std::make_unique<PathsWork>(parameters, paths, static_cast<size_t>(limit)));
}

napi_value HashRangeCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const double fd = args.Number(0);
  const double offset = args.Integer(1, 0, kTwoTo53);
  const double length = args.Integer(2, 0, kRangeMax);
  const Parameters parameters = args.GetParameters(3, kBlockMin);
  if (!args.ok()) return nullptr;
  // The work's own descriptor: the caller may close its one, and the number come back as another
  // file, before a thread gets to it. Any descriptor will do: pread(2) changes nothing.
  const bool is_fd = fd >= 0 && fd < kTableSize && fd == std::trunc(fd);
  FdGuard copy(is_fd ? fcntl(static_cast<int>(fd), F_DUPFD_CLOEXEC, 0) : -1);
  return Work::Start(
      env, std::make_unique<RangeWork>(parameters, std::move(copy), static_cast<off_t>(offset),
                                       static_cast<size_t>(length)));
}

napi_value EnableVerityCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const double fd = args.Number(0);
  const double algorithm = args.Integer(1, 0, UINT32_MAX);
  const double block_size = args.Integer(2, 0, UINT32_MAX);
  if (!args.ok()) return nullptr;
  const bool is_fd = fd >= 0 && fd < kTableSize && fd == std::trunc(fd);
  return ToValue(
      env, EnableVerity({is_fd ? static_cast<int>(fd) : kBadFd}, static_cast<uint32_t>(algorithm),
                        static_cast<uint32_t>(block_size)));
}

napi_value VariantsCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const bool is_sha512 = args.Integer(0, 1, 2) == 2;
  if (!args.ok()) return nullptr;
  napi_value names = nullptr;
  napi_create_array(env, &names);
  uint32_t i = 0;
  for (const sha2::Implementation& item :
       sha2::ImplementationsOf(is_sha512 ? sha2::kSha512 : sha2::kSha256)) {
    napi_value name = nullptr;
    napi_create_string_utf8(env, item.name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, i++, name);
  }
  return names;
}

/** Parameters and two arrays, checked once: a call takes three numbers. */
struct BlockHasher {
  Parameters parameters;
  std::span<const uint8_t> input;
  std::span<uint8_t> digests;
  std::array<napi_ref, 2> arrays = {};

  void ReleaseArrays(napi_env env) {
    for (napi_ref array : arrays) {
      if (array != nullptr) napi_delete_reference(env, array);
    }
  }
};

void FinalizeHasher(napi_env env, void* memory, void*) {
  const std::unique_ptr<BlockHasher> hasher(static_cast<BlockHasher*>(memory));
  hasher->ReleaseArrays(env);
}

napi_value ConstructHasher(napi_env env, napi_callback_info info) {
  napi_value new_target = nullptr;
  if (napi_get_new_target(env, info, &new_target) != napi_ok || new_target == nullptr) {
    napi_throw_type_error(env, nullptr, "BlockHasher must be called with new");
    return nullptr;
  }
  Arguments args(env, info);
  const Parameters parameters = args.GetParameters(0, 256);
  const std::span<uint8_t> input = args.Bytes(4), digests = args.Bytes(5);
  if (!args.ok()) return nullptr;
  auto hasher = std::make_unique<BlockHasher>(BlockHasher{parameters, input, digests});
  if (napi_create_reference(env, args[4], 1, &hasher->arrays[0]) != napi_ok ||
      napi_create_reference(env, args[5], 1, &hasher->arrays[1]) != napi_ok ||
      napi_wrap(env, args.self(), hasher.get(), FinalizeHasher, nullptr, nullptr) != napi_ok) {
    hasher->ReleaseArrays(env);
    napi_throw_type_error(env, nullptr, "the BlockHasher cannot be made");
    return nullptr;
  }
  hasher.release();
  return args.self();
}

/** The receiver is a BlockHasher for sure: see ReadCall in addon.cc. */
napi_value HashCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  void* memory = nullptr;
  if (!args.ok() || napi_unwrap(env, args.self(), &memory) != napi_ok) {
    napi_throw_type_error(env, nullptr, "the receiver is not a BlockHasher");
    return nullptr;
  }
  const auto& hasher = *static_cast<const BlockHasher*>(memory);
  const double size = static_cast<double>(hasher.input.size());
  const auto start = static_cast<size_t>(args.Integer(0, 0, size));
  const auto length = static_cast<size_t>(args.Integer(1, 0, size - static_cast<double>(start)));
  const double room = static_cast<double>(hasher.digests.size());
  const auto at = static_cast<size_t>(args.Integer(2, 0, room));
  const size_t block_size = hasher.parameters.block_size;
  const size_t count = (length + block_size - 1) / block_size;
  if (args.ok() && count * hasher.parameters.digest_size() > hasher.digests.size() - at) {
    args.FailRange(2);
  }
  if (!args.ok()) return nullptr;
  HashBlocks(hasher.parameters, hasher.input.subspan(start, length), hasher.digests.data() + at);
  return ToValue(env, static_cast<double>(count));
}

}  // namespace

void Register(napi_env env, napi_value exports) {
  const auto method = [](const char* name, napi_callback callback) {
    return napi_property_descriptor{name,    nullptr, callback,     nullptr,
                                    nullptr, nullptr, napi_default, nullptr};
  };
  const napi_property_descriptor methods[] = {method("hash", HashCall)};
  napi_value hasher = nullptr;
  napi_define_class(env, "BlockHasher", NAPI_AUTO_LENGTH, ConstructHasher, nullptr,
                    std::size(methods), methods, &hasher);
  const napi_property_descriptor properties[] = {
      method("measurePaths", MeasurePathsCall),
      method("hashRange", HashRangeCall),
      method("enableVerity", EnableVerityCall),
      method("verityVariants", VariantsCall),
      {"BlockHasher", nullptr, nullptr, nullptr, nullptr, hasher, napi_enumerable, nullptr}};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::verity
