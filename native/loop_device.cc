#include "loop_device.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

namespace composefs {
namespace {

// Linux 5.8; <linux/loop.h> of an older system does not have it.
#ifndef LOOP_CONFIGURE
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
  __u32 fd;
  __u32 block_size;
  struct loop_info64 info;
  __u64 __reserved[8];
};
#endif

/** Images consist of blocks of this size; a device of larger sectors reads fewer of them. */
constexpr uint32_t kSectorSize = 4096;
/** Others take free devices too, between asking for one and binding it. */
constexpr int kAttempts = 64;

/** Direct I/O keeps the image once in memory, not twice; not every filesystem can. */
bool Bind(int device, int fd) {
  for (const uint32_t direct : {uint32_t{LO_FLAGS_DIRECT_IO}, uint32_t{0}}) {
    loop_config config = {};
    config.fd = static_cast<uint32_t>(fd);
    config.block_size = kSectorSize;
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | direct;
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) return true;
    if (errno != EINVAL) return false;
  }
  return false;
}

}  // namespace

FdGuard OpenLoopDevice(int fd, std::string& path) {
  const FdGuard control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) return FdGuard();
  for (int attempt = 0; attempt < kAttempts; attempt++) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return FdGuard();
    path = "/dev/loop" + std::to_string(number);
    FdGuard device(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!device) return FdGuard();
    if (Bind(device.get(), fd)) return device;
    if (errno != EBUSY) return FdGuard();
  }
  errno = EBUSY;
  return FdGuard();
}

}  // namespace composefs
