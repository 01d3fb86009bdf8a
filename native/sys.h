// The system calls that Node lacks. Every function checks that a descriptor argument was handed out
// as the right kind (else -EBADF), returns a descriptor, 0 or another count, and -errno on failure.
// src/native.ts documents each one under the same name. All of them work in any thread.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fd_guard.h"

namespace composefs::sys {

/** OBJECT_FACTS of src/native.ts: size, mode, dev, ino, mtime ns, ctime ns. */
using ObjectFacts = std::array<int64_t, 6>;

int CreateWake();
int Wake(Fd wake);
int OpenDevice();
int CloneDevice(Fd device);
int Duplicate(Fd fd);
/** Of any descriptor of /dev/fuse that this process has, whoever opened it. */
int AdoptDevice(Fd fd);
/** 1 if the connection has ended because its filesystem is gone; 0 or -errno. */
int IsUnmounted(Fd device);
int CloseDescriptor(Fd fd);
int Mount(const std::string& source, const std::string& target, const std::string& type,
          uint32_t flags, const std::string& data, Fd device);
int Unmount(const std::string& target, uint32_t flags);
int SocketPair(std::array<int, 2>& pair);
int ReceiveDescriptor(Fd socket);
int OpenBasedir(const std::string& path);
int OpenObject(Fd basedir, std::string_view path, ObjectFacts& facts);
int OpenObjectByWalk(Fd basedir, std::string_view path, ObjectFacts& facts);
/** fstat(2). 0 or -errno. */
int FactsOf(int fd, ObjectFacts& facts);
int64_t Seek(Fd object, int64_t offset, uint32_t whence);
int MeasureVerity(Fd file, std::span<uint8_t> digest);
int OpenBacking(Fd device, Fd object);
int CloseBacking(Fd device, uint32_t backing_id);
/** Gives the kernel the first bytes of a file. 0 or -errno. */
int StoreInCache(Fd device, uint64_t nodeid, std::span<const uint8_t> content);
int UseHugePages(std::span<uint8_t> memory);
void Syslog(int priority, const std::string& line);

}  // namespace composefs::sys
