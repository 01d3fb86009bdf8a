#include "datagram.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "fd_guard.h"

namespace composefs::sys {

namespace {

// A receiver that does not read must not hold the caller up for ever: ten messages fill its queue.
constexpr timeval kPatience = {5, 0};

}  // namespace

int SendDatagram(const std::string& address, const std::string& text) {
  if (address.size() < 2 || (address[0] != '/' && address[0] != '@')) return -EINVAL;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  // An abstract name begins with a NUL, a path ends with one.
  const bool is_abstract = address[0] == '@';
  const size_t size = is_abstract ? address.size() : address.size() + 1;
  if (size > sizeof name.sun_path) return -ENAMETOOLONG;
  memcpy(name.sun_path, address.data(), address.size());
  if (is_abstract) name.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  const FdGuard socket_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return -errno;
  if (setsockopt(socket_fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience) < 0) {
    return -errno;
  }
  ssize_t sent;
  do {
    sent = sendto(socket_fd.get(), text.data(), text.size(), MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&name), length);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : 0;
}

}  // namespace composefs::sys
