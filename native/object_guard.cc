#include "object_guard.h"

#include <sys/stat.h>

#include <cerrno>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

namespace composefs::guard {
namespace {

using Tree = std::shared_ptr<const verity::ContentTree>;

// About 250,000 small files, or 400 GiB of large ones.
constexpr size_t kRememberedMaxBytes = size_t{64} << 20;
// Of an entry in the list and the index, beside the tree.
constexpr size_t kEntryBytes = 160;

/** A file as it was when it was hashed. Any write moves the ctime. */
struct Identity {
  sys::ObjectFacts facts;
  uint32_t algorithm;
  bool operator==(const Identity&) const = default;
};

struct HashIdentity {
  size_t operator()(const Identity& identity) const {
    uint64_t hash = identity.algorithm;
    for (const int64_t fact : identity.facts) {
      hash = (hash ^ static_cast<uint64_t>(fact)) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

/** Trees by file, those used last. */
class Memory {
 public:
  Tree Find(const Identity& identity) {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find(identity);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }
  void Add(const Identity& identity, Tree tree) {
    const std::lock_guard lock(mutex_);
    if (index_.contains(identity)) return;
    bytes_ += kEntryBytes + tree->memory_bytes();
    order_.emplace_front(identity, std::move(tree));
    index_[identity] = order_.begin();
    while (bytes_ > kRememberedMaxBytes && order_.size() > 1) {
      bytes_ -= kEntryBytes + order_.back().second->memory_bytes();
      index_.erase(order_.back().first);
      order_.pop_back();
    }
  }
  int64_t Clear() {
    const std::lock_guard lock(mutex_);
    const auto count = static_cast<int64_t>(index_.size());
    index_.clear();
    order_.clear();
    bytes_ = 0;
    return count;
  }

 private:
  using Order = std::list<std::pair<Identity, Tree>>;
  std::mutex mutex_;
  Order order_;
  std::unordered_map<Identity, Order::iterator, HashIdentity> index_;
  size_t bytes_ = 0;
};

/** The trees that guard open descriptors. */
class Guards {
 public:
  void Set(int fd, Tree tree) {
    const std::lock_guard lock(mutex_);
    trees_[fd] = std::move(tree);
  }
  Tree Get(int fd) {
    const std::shared_lock lock(mutex_);
    const auto found = trees_.find(fd);
    return found == trees_.end() ? nullptr : found->second;
  }
  void Remove(int fd) {
    const std::lock_guard lock(mutex_);
    trees_.erase(fd);
  }

 private:
  std::shared_mutex mutex_;
  std::unordered_map<int, Tree> trees_;
};

// Never destroyed: threads may still serve when the process exits.
Memory& Remembered() {
  static auto& memory = *new Memory;
  return memory;
}

Guards& OpenGuards() {
  static auto& guards = *new Guards;
  return guards;
}

int64_t Compute(int fd, const Identity& identity, const verity::Progress* progress, Tree& result) {
  auto tree = std::make_shared<verity::ContentTree>();
  const int64_t status = tree->Build(identity.algorithm, fd, identity.facts[0], progress);
  if (status < 0) return status;
  sys::ObjectFacts after;
  const int error = sys::FactsOf(fd, after);
  if (error < 0) return error;
  if (after != identity.facts) return verity::kChanged;
  Remembered().Add(identity, tree);
  result = std::move(tree);
  return 0;
}

/** 0 where the kernel knows nothing of the file. */
int64_t AskKernel(Fd object, const verity::Digest& expected, verity::Digest& actual) {
  verity::Digest found;
  const int result = sys::MeasureVerity(object, found.bytes);
  // ENODATA: not enabled for this file. The others: not for this kernel or filesystem.
  if (result == -ENODATA || result == -ENOTTY || result == -EOPNOTSUPP || result == -ENOSYS) {
    return 0;
  }
  if (result < 0) return result;
  found.algorithm = static_cast<uint8_t>(result >> 16);
  if (found == expected) return kByKernel;
  actual = found;
  return kDiffersByKernel;
}

}  // namespace

int64_t Verify(Fd object, const sys::ObjectFacts& facts, const verity::Digest& expected,
               Engine engine, int64_t limit, verity::Digest& actual) {
  const Kind kind = KindOf(object.number);
  if (kind != Kind::kObject && kind != Kind::kGuardedObject) return -EBADF;
  if (engine != Engine::kUserSpace) {
    const int64_t answer = AskKernel(object, expected, actual);
    if (answer != 0) return answer;
    if (engine == Engine::kKernel) return kNoKernelVerity;
  }
  const Identity identity = {facts, expected.algorithm};
  Tree tree = Remembered().Find(identity);
  const int64_t found = tree != nullptr ? kRemembered : kComputed;
  if (tree == nullptr) {
    if (facts[0] > limit) return verity::kTooLarge;
    const int64_t status = Compute(object.number, identity, nullptr, tree);
    if (status < 0) return status;
  }
  if (tree->digest() != expected) {
    actual = tree->digest();
    return kDiffersComputed;
  }
  OpenGuards().Set(object.number, std::move(tree));
  ChangeKind(object.number, Kind::kObject, Kind::kGuardedObject);
  return found;
}

int64_t Measure(int fd, const sys::ObjectFacts& facts, uint32_t algorithm,
                const verity::Progress& progress) {
  Tree tree;
  return Compute(fd, {facts, algorithm}, &progress, tree);
}

int64_t Forget() {
  return Remembered().Clear();
}

int64_t Read(int fd, int64_t offset, std::span<uint8_t> out) {
  const Tree tree = OpenGuards().Get(fd);
  return tree == nullptr ? -EBADF : tree->Read(fd, offset, out);
}

int64_t SizeOf(int fd) {
  const Tree tree = OpenGuards().Get(fd);
  return tree == nullptr ? -EBADF : tree->size();
}

void Remove(int fd) {
  OpenGuards().Remove(fd);
}

}  // namespace composefs::guard
