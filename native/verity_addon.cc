// The JavaScript side of verity.h: argument checks, work for the thread pool, the BlockHasher
// class. Pieces of work own all their memory, so that no typed array can be detached below them.

#include "verity_addon.h"

#include <array>
#include <cstring>
#include <iterator>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "js.h"
#include "verity.h"

namespace composefs::verity {
namespace {

using js::Arguments;
using js::kTwoTo53;
using js::Method;
using js::ToBytes;
using js::ToDescriptor;
using js::ToValue;
using js::Work;

constexpr size_t kPathsMax = size_t{1} << 20;
constexpr size_t kRangeMax = size_t{1} << 26;
constexpr size_t kStatusSize = 8;

/** Algorithm, block size, salt and variant, four arguments from `i` on. */
Parameters GetParameters(Arguments& args, size_t i, double block_min) {
  const auto number = static_cast<uint8_t>(args.Integer(i, 1, 2));
  const auto block_size = static_cast<size_t>(args.Integer(i + 1, block_min, kBlockMax));
  if (args.ok() && (block_size & (block_size - 1)) != 0) args.FailRange(i + 1);
  const std::span<const uint8_t> salt = args.Bytes(i + 2);
  if (salt.size() > kSaltMax) args.FailRange(i + 2);
  const auto variants = sha2::ImplementationsOf(number == 2 ? sha2::kSha512 : sha2::kSha256);
  const double variant = args.Integer(i + 3, 0, static_cast<double>(variants.size() - 1));
  if (!args.ok()) return {};
  return MakeParameters(number, block_size, salt, variants[static_cast<size_t>(variant)]);
}

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
  const Parameters parameters = GetParameters(args, 1, kBlockMin);
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
  const Parameters parameters = GetParameters(args, 3, kBlockMin);
  if (!args.ok()) return nullptr;
  // The work's own descriptor: the caller may close its one, and the number come back as another
  // file, before a thread gets to it. Any descriptor will do: pread(2) changes nothing.
  FdGuard copy(fcntl(ToDescriptor(fd).number, F_DUPFD_CLOEXEC, 0));
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
  return ToValue(env, EnableVerity(ToDescriptor(fd), static_cast<uint32_t>(algorithm),
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
  js::Pins<2> arrays;
};

void FinalizeHasher(napi_env env, void* memory, void*) {
  const std::unique_ptr<BlockHasher> hasher(static_cast<BlockHasher*>(memory));
  hasher->arrays.Release(env);
}

napi_value ConstructHasher(napi_env env, napi_callback_info info) {
  if (!js::IsConstruction(env, info, "BlockHasher")) return nullptr;
  Arguments args(env, info);
  const Parameters parameters = GetParameters(args, 0, 256);
  const std::span<uint8_t> input = args.Bytes(4), digests = args.Bytes(5);
  if (!args.ok()) return nullptr;
  auto hasher = std::make_unique<BlockHasher>(BlockHasher{parameters, input, digests, {}});
  if (!hasher->arrays.Add(env, args[4]) || !hasher->arrays.Add(env, args[5]) ||
      napi_wrap(env, args.self(), hasher.get(), FinalizeHasher, nullptr, nullptr) != napi_ok) {
    hasher->arrays.Release(env);
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
  const napi_property_descriptor methods[] = {Method("hash", HashCall)};
  napi_value hasher = nullptr;
  napi_define_class(env, "BlockHasher", NAPI_AUTO_LENGTH, ConstructHasher, nullptr,
                    std::size(methods), methods, &hasher);
  const napi_property_descriptor properties[] = {
      Method("measurePaths", MeasurePathsCall),
      Method("hashRange", HashRangeCall),
      Method("enableVerity", EnableVerityCall),
      Method("verityVariants", VariantsCall),
      {"BlockHasher", nullptr, nullptr, nullptr, nullptr, hasher, napi_enumerable, nullptr}};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::verity
