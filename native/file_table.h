// The objects that a mount has open, shared by all its threads. A file that is opened again finds
// its object open and verified: no path is walked, nothing is hashed. Objects that nobody has open
// any more stay for a while, the oldest go first.
//
// For passthrough the table keeps FUSE's rule that all opens of an inode at a time use one backing
// id; files with the same object share it.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fd_guard.h"
#include "sys.h"

namespace composefs {

/** How an open file is read. */
struct FileAnswer {
  /** The object's descriptor, which stays open until Release; or -errno. */
  int fd;
  /** For passthrough; 0: the daemon is asked for what is read. */
  int backing_id = 0;
};

class FileTable {
 public:
  /**
   * At most `open_max` descriptors are held at a time, at most `idle_max` of them for files that
   * are not open.
   */
  FileTable(size_t open_max, size_t idle_max) : open_max_(open_max), idle_max_(idle_max) {}
  ~FileTable();
  FileTable(const FileTable&) = delete;
  FileTable& operator=(const FileTable&) = delete;

  /** Allows passthrough on the connection of `device`, which the table takes over. */
  void AllowPassthrough(Fd device);
  /** Allows Preload on the connection of `device`, which the table takes over. */
  void AllowPreload(Fd device);

  /** Opens the file if its object is known, and the same as when it was put in. Else -ENOENT. */
  FileAnswer Acquire(uint64_t nid);
  /** Opens it even if its object has changed, for who checks each block. */
  FileAnswer AcquireAny(uint64_t nid);

  /**
   * Takes over `fd`, of kind kObject or kGuardedObject, as the object of the file, and opens it.
   * -EMFILE if too many are open, -EBUSY if the file is open by passthrough to another object.
   */
  FileAnswer Insert(uint64_t nid, Fd fd, const sys::ObjectFacts& facts, bool passthrough);

  /** Ends one Acquire or Insert. 0 or -EBADF. */
  int Release(uint64_t nid);

  /**
   * Puts the whole content of a file that was just acquired or inserted into the kernel's page
   * cache, through `memory`, which is as large as the file: it then need not ask for it. Only if
   * the caller is the only one who has the file open, and nobody had since Unload. Whether the
   * kernel took it.
   */
  bool Preload(uint64_t nid, uint64_t nodeid, std::span<uint8_t> memory);
  /** The kernel has forgotten the file, with what it had cached of it. */
  void Unload(uint64_t nid);

  /** Closes what is idle, and what is open as soon as it is released. Neither is acquired again. */
  void Forget();
  /** Closes what is idle. False if nothing is. */
  bool Trim();

  /** Why the kernel refused passthrough last; 0 if it did not. */
  int backing_error() const { return backing_error_; }

 private:
  struct Backing {
    int id;
    uint32_t users;
  };
  struct File {
    uint64_t nid;
    int fd;
    sys::ObjectFacts facts;
    int backing_id;
    uint32_t opens;
    bool is_stale;
    bool is_preloaded;
    /** Whoever opens the file meanwhile waits: see Preload. */
    bool is_preloading;
    /** Descriptors that were replaced while the file was open. */
    std::vector<int> retired;
  };
  using Files = std::list<File>;

  using Lock = std::unique_lock<std::mutex>;

  FileAnswer Open(Lock& lock, Files::iterator file);
  FileAnswer Replace(Lock& lock, Files::iterator file, int fd, const sys::ObjectFacts& facts);
  void Close(Files::iterator file);
  void CloseIdle();
  void Evict();
  bool MakeRoom();
  int OpenBacking(int fd, const sys::ObjectFacts& facts);
  void CloseBacking(const sys::ObjectFacts& facts);

  std::mutex mutex_;
  Fd device_ = {kNoFd};
  /** Shared with who writes to it when it is taken away. */
  std::shared_ptr<const Fd> preload_device_;
  std::condition_variable preloaded_;
  /** How many files are preloaded; Unload has nothing to look for where none is. */
  std::atomic<uint32_t> preloads_ = 0;
  size_t open_max_, idle_max_;
  size_t descriptors_ = 0;
  uint32_t evictions_ = 0;
  std::atomic<int> backing_error_ = 0;
  Files busy_;
  /** The one that was released last in front. */
  Files idle_;
  std::unordered_map<uint64_t, Files::iterator> index_;
  /** By device and inode number of the object, which is not used again while it is open. */
  std::map<std::pair<int64_t, int64_t>, Backing> backings_;
};

}  // namespace composefs
