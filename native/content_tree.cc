#include "content_tree.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace composefs::verity {
namespace {

// Almost 8000 whole groups: the leaves of 4 GiB of content that is being read, with SHA-256.
constexpr size_t kLeavesMaxBytes = size_t{32} << 20;
// Of an entry in the list and the index, beside the leaves.
constexpr size_t kEntryBytes = 160;

using Leaves = std::vector<uint8_t>;

/** The leaves used last, for all trees of the process. */
class LeafCache {
 public:
  std::shared_ptr<const Leaves> Find(uint64_t tree, uint64_t group) {
    const std::lock_guard lock(mutex_);
    const auto found = index_.find({tree, group});
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->leaves;
  }
  void Add(uint64_t tree, uint64_t group, Leaves leaves) {
    const std::lock_guard lock(mutex_);
    if (index_.contains({tree, group})) return;
    bytes_ += kEntryBytes + leaves.size();
    order_.push_front({{tree, group}, std::make_shared<const Leaves>(std::move(leaves))});
    index_[{tree, group}] = order_.begin();
    while (bytes_ > kLeavesMaxBytes) {
      bytes_ -= kEntryBytes + order_.back().leaves->size();
      index_.erase(order_.back().key);
      order_.pop_back();
    }
  }

 private:
  struct Key {
    uint64_t tree;
    uint64_t group;
    bool operator==(const Key&) const = default;
  };
  struct HashKey {
    size_t operator()(const Key& key) const {
      return std::hash<uint64_t>()(key.tree * 0x9e3779b97f4a7c15u + key.group);
    }
  };
  struct Entry {
    Key key;
    std::shared_ptr<const Leaves> leaves;
  };
  std::mutex mutex_;
  std::list<Entry> order_;
  std::unordered_map<Key, std::list<Entry>::iterator, HashKey> index_;
  size_t bytes_ = 0;
};

LeafCache& Cache() {
  // Never destroyed: threads may still read when the process exits.
  static auto& cache = *new LeafCache;
  return cache;
}

/** Room for the content of one group; a fresh one costs 128 page faults each time. */
std::span<uint8_t> GroupRoom() {
  constexpr size_t kSize = kBlockSize * kBlockSize / 32;
  thread_local const std::unique_ptr<uint8_t[]> room(new uint8_t[kSize]);
  return {room.get(), kSize};
}

Leaves HashToLeaves(const Parameters& parameters, std::span<const uint8_t> bytes) {
  Leaves leaves((bytes.size() + kBlockSize - 1) / kBlockSize * parameters.digest_size());
  HashBlocks(parameters, bytes, leaves.data());
  return leaves;
}

}  // namespace

const Parameters& ComposefsParameters(uint32_t algorithm) {
  static const Parameters sha256 =
      MakeParameters(1, kBlockSize, {}, sha2::ImplementationsOf(sha2::kSha256)[0]);
  static const Parameters sha512 =
      MakeParameters(2, kBlockSize, {}, sha2::ImplementationsOf(sha2::kSha512)[0]);
  return algorithm == 2 ? sha512 : sha256;
}

/** The blocks of one group that a read needs: [from, to) is asked for, [first, end) is checked. */
class ContentTree::Part {
 public:
  int64_t group;
  int64_t from, to;
  int64_t first, end;
  /** The known digests of the blocks; nullptr where the whole group has to be hashed. */
  std::shared_ptr<const Leaves> leaves;
};

int64_t ContentTree::group_size() const {
  return static_cast<int64_t>(kBlockSize / parameters().digest_size() * kBlockSize);
}

int64_t ContentTree::Build(uint32_t algorithm, int fd, int64_t size, const Progress* progress) {
  static std::atomic<uint64_t> next_number = 0;
  digest_.algorithm = static_cast<uint8_t>(algorithm);
  size_ = size;
  number_ = next_number++;
  const Parameters& hashing = parameters();
  for (int64_t at = 0; at < size; at += group_size()) {
    if (progress != nullptr && progress->cancelled.load() != 0) return -ECANCELED;
    const auto length = static_cast<size_t>(std::min(group_size(), size - at));
    const std::span<uint8_t> bytes = GroupRoom().first(length);
    const ssize_t count = ReadAll(fd, bytes.data(), length, at);
    if (count < 0) return count;
    if (static_cast<size_t>(count) < length) return kChanged;
    Leaves leaves = HashToLeaves(hashing, bytes);
    if (size <= static_cast<int64_t>(kBlockSize)) {
      groups_ = std::move(leaves);  // The root itself.
    } else {
      const size_t used = groups_.size();
      groups_.resize(used + hashing.digest_size());
      HashBlocks(hashing, leaves, groups_.data() + used);
      Cache().Add(number_, static_cast<uint64_t>(at / group_size()), std::move(leaves));
    }
    if (progress != nullptr) progress->done_bytes.store(at + count);
  }
  groups_.shrink_to_fit();
  Finish();
  return 0;
}

void ContentTree::Finish() {
  const Parameters& hashing = parameters();
  std::vector<uint8_t> level = groups_;
  while (level.size() > hashing.digest_size()) level = HashToLeaves(hashing, level);
  level.resize(hashing.digest_size());  // Zeros, for an empty file.
  HashDescriptor(hashing, size_, level, digest_.bytes.data());
}

int64_t ContentTree::Read(int fd, int64_t offset, std::span<uint8_t> out) const {
  if (offset >= size_) return 0;
  const int64_t end = offset + std::min(static_cast<int64_t>(out.size()), size_ - offset);
  constexpr auto kBlock = static_cast<int64_t>(kBlockSize);
  for (int64_t at = offset; at < end;) {
    const int64_t group = at / group_size(), group_start = group * group_size();
    const int64_t group_end = std::min(group_start + group_size(), size_);
    Part part = {group, at, std::min(end, group_end), group_start, group_end, nullptr};
    if (group_end - group_start > kBlock)
      part.leaves = Cache().Find(number_, static_cast<uint64_t>(group));
    if (part.leaves != nullptr) {
      part.first = part.from & -kBlock;
      part.end = std::min((part.to + kBlock - 1) & -kBlock, group_end);
    }
    const int64_t status = ReadPart(fd, part, out.subspan(static_cast<size_t>(at - offset)));
    if (status < 0) return status;
    at = part.to;
  }
  return end - offset;
}

int64_t ContentTree::ReadPart(int fd, const Part& part, std::span<uint8_t> out) const {
  const Parameters& hashing = parameters();
  const size_t digest_size = hashing.digest_size();
  const auto length = static_cast<size_t>(part.end - part.first);
  const auto wanted = static_cast<size_t>(part.to - part.from);
  // What is asked for is mostly whole blocks: they are checked where they are to lie.
  const bool is_whole = part.first == part.from && part.end == part.to;
  const std::span<uint8_t> bytes = is_whole ? out.first(length) : GroupRoom().first(length);
  const ssize_t count = ReadAll(fd, bytes.data(), length, part.first);
  if (count < 0) return count;
  if (static_cast<size_t>(count) < length) return kDiffers;
  Leaves leaves = HashToLeaves(hashing, bytes);
  const auto group_start = part.group * group_size();
  if (part.leaves != nullptr) {
    const auto block = static_cast<size_t>(part.first - group_start) / kBlockSize;
    if (memcmp(leaves.data(), part.leaves->data() + block * digest_size, leaves.size()) != 0) {
      return kDiffers;
    }
  } else {
    const uint8_t* expected = groups_.data() + static_cast<size_t>(part.group) * digest_size;
    Leaves above;
    if (size_ > static_cast<int64_t>(kBlockSize)) above = HashToLeaves(hashing, leaves);
    const Leaves& found = above.empty() ? leaves : above;
    if (memcmp(found.data(), expected, digest_size) != 0) return kDiffers;
    if (!above.empty()) {
      Cache().Add(number_, static_cast<uint64_t>(part.group), std::move(leaves));
    }
  }
  if (!is_whole) memcpy(out.data(), bytes.data() + (part.from - part.first), wanted);
  return 0;
}

}  // namespace composefs::verity
