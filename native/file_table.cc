#include "file_table.h"

#include <cerrno>
#include <utility>

#include "object_guard.h"
#include "session.h"

namespace composefs {
namespace {

std::pair<int64_t, int64_t> FileOf(const sys::ObjectFacts& facts) {
  return {facts[2], facts[3]};
}

}  // namespace

void FileTable::AllowPassthrough(Fd device) {
  const std::lock_guard lock(mutex_);
  sys::CloseDescriptor(std::exchange(device_, device));
}

void FileTable::AllowPreload(Fd device) {
  const std::lock_guard lock(mutex_);
  preload_device_.reset();
  if (device.number < 0) return;
  const auto close = [](const Fd* fd) {
    sys::CloseDescriptor(*fd);
    delete fd;
  };
  preload_device_ = std::shared_ptr<const Fd>(new Fd(device), close);
}

FileAnswer FileTable::Acquire(uint64_t nid) {
  Lock lock(mutex_);
  const auto found = index_.find(nid);
  if (found == index_.end()) return {-ENOENT};
  const Files::iterator file = found->second;
  sys::ObjectFacts now;
  if (file->is_stale || sys::FactsOf(file->fd, now) < 0 || now != file->facts) {
    if (file->opens == 0) Close(file);
    return {-ENOENT};
  }
  return Open(lock, file);
}

FileAnswer FileTable::AcquireAny(uint64_t nid) {
  Lock lock(mutex_);
  const auto found = index_.find(nid);
  if (found == index_.end() || found->second->is_stale) return {-ENOENT};
  return Open(lock, found->second);
}

FileAnswer FileTable::Insert(uint64_t nid, Fd fd, const sys::ObjectFacts& facts, bool passthrough) {
  if (!IsObject(fd)) return {-EBADF};
  Lock lock(mutex_);
  const auto found = index_.find(nid);
  if (found != index_.end()) {
    const Files::iterator file = found->second;
    if (file->facts == facts) {
      // Another thread was faster, or it was verified anew after Forget.
      sys::CloseDescriptor(fd);
      file->is_stale = false;
      return Open(lock, file);
    }
    if (file->opens > 0) return Replace(lock, file, fd.number, facts);
    Close(file);
  }
  if (!MakeRoom()) {
    sys::CloseDescriptor(fd);
    return {-EMFILE};
  }
  descriptors_++;
  const bool is_wanted = passthrough && device_.number >= 0;
  const int backing_id = is_wanted ? OpenBacking(fd.number, facts) : 0;
  idle_.push_front({nid, fd.number, facts, backing_id, 0, false, false, false, {}});
  index_[nid] = idle_.begin();
  return Open(lock, idle_.begin());
}

int FileTable::Release(uint64_t nid) {
  const std::lock_guard lock(mutex_);
  const auto found = index_.find(nid);
  if (found == index_.end() || found->second->opens == 0) return -EBADF;
  const Files::iterator file = found->second;
  if (--file->opens > 0) return 0;
  for (const int fd : file->retired) sys::CloseDescriptor({fd});
  descriptors_ -= file->retired.size();
  file->retired.clear();
  idle_.splice(idle_.begin(), busy_, file);
  if (file->is_stale) {
    Close(file);
  } else if (idle_.size() > idle_max_) {
    Evict();
  }
  return 0;
}

// The kernel locks the pages that it is given, and locks those that it asks for until it has them.
// So it must not be asking for any: a thread that waits for a page cannot serve the request that
// brings it. Nobody but the caller has the file open, so nobody can be asking; and who opens it now
// waits until the pages are there. What the kernel still wants for an open file keeps that file
// open.
bool FileTable::Preload(uint64_t nid, uint64_t nodeid, std::span<uint8_t> memory) {
  Lock lock(mutex_);
  const auto found = index_.find(nid);
  if (preload_device_ == nullptr || found == index_.end()) return false;
  const Files::iterator file = found->second;
  if (file->opens != 1 || file->is_preloaded || file->backing_id != 0) return false;
  const std::shared_ptr<const Fd> device = preload_device_;
  const int fd = file->fd;
  file->is_preloading = file->is_preloaded = true;
  preloads_++;
  lock.unlock();
  const int length = ReadObject({fd}, 0, memory);
  const bool is_whole = length >= 0 && static_cast<size_t>(length) == memory.size();
  const bool is_stored = is_whole && sys::StoreInCache(*device, nodeid, memory) == 0;
  lock.lock();
  file->is_preloading = false;
  preloaded_.notify_all();
  return is_stored;
}

void FileTable::Unload(uint64_t nid) {
  if (preloads_ == 0) return;
  const std::lock_guard lock(mutex_);
  const auto found = index_.find(nid);
  if (found == index_.end() || !found->second->is_preloaded) return;
  found->second->is_preloaded = false;
  preloads_--;
}

void FileTable::Forget() {
  const std::lock_guard lock(mutex_);
  CloseIdle();
  for (File& file : busy_) file.is_stale = true;
}

bool FileTable::Trim() {
  const std::lock_guard lock(mutex_);
  const bool is_any = !idle_.empty();
  CloseIdle();
  return is_any;
}

FileAnswer FileTable::Open(Lock& lock, Files::iterator file) {
  // It stays in the table: it is open.
  while (file->is_preloading) preloaded_.wait(lock);
  if (file->opens++ == 0) busy_.splice(busy_.begin(), idle_, file);
  return {file->fd, file->backing_id};
}

/** The object of an open file is another one by now: readers keep the one they have opened. */
FileAnswer FileTable::Replace(Lock& lock, Files::iterator file, int fd,
                              const sys::ObjectFacts& facts) {
  // The kernel takes no second backing file for an inode that is open.
  const bool is_bound = file->backing_id != 0 && FileOf(file->facts) != FileOf(facts);
  if (is_bound || !MakeRoom()) {
    sys::CloseDescriptor({fd});
    return {is_bound ? -EBUSY : -EMFILE};
  }
  descriptors_++;
  file->retired.push_back(std::exchange(file->fd, fd));
  file->facts = facts;
  file->is_stale = false;
  return Open(lock, file);
}

/** Of a file in idle_. */
void FileTable::Close(Files::iterator file) {
  if (file->backing_id != 0) CloseBacking(file->facts);
  if (file->is_preloaded) preloads_--;
  sys::CloseDescriptor({file->fd});
  descriptors_--;
  index_.erase(file->nid);
  idle_.erase(file);
}

void FileTable::CloseIdle() {
  while (!idle_.empty()) Close(idle_.begin());
}

/**
 * The oldest and the newest in turn: if only the oldest went, a program that goes through more
 * files than there is room for, again and again, would never find one.
 */
void FileTable::Evict() {
  Close(evictions_++ % 2 == 0 ? std::prev(idle_.end()) : idle_.begin());
}

bool FileTable::MakeRoom() {
  while (descriptors_ >= open_max_ && !idle_.empty()) Evict();
  return descriptors_ < open_max_;
}

/** 0 if the kernel refuses. */
int FileTable::OpenBacking(int fd, const sys::ObjectFacts& facts) {
  const auto found = backings_.find(FileOf(facts));
  if (found != backings_.end()) {
    found->second.users++;
    return found->second.id;
  }
  const int id = sys::OpenBacking(device_, {fd});
  if (id <= 0) {
    backing_error_ = id;
    return 0;
  }
  backings_[FileOf(facts)] = {id, 1};
  return id;
}

void FileTable::CloseBacking(const sys::ObjectFacts& facts) {
  const auto found = backings_.find(FileOf(facts));
  if (found == backings_.end() || --found->second.users > 0) return;
  sys::CloseBacking(device_, static_cast<uint32_t>(found->second.id));
  backings_.erase(found);
}

FileTable::~FileTable() {
  idle_.splice(idle_.end(), busy_);
  while (!idle_.empty()) {
    for (const int fd : idle_.front().retired) sys::CloseDescriptor({fd});
    Close(idle_.begin());
  }
  sys::CloseDescriptor(device_);
}

}  // namespace composefs
