// One message to a socket of another program: what Node's sockets cannot send.

#pragma once

#include <string>

namespace composefs::sys {

/** 0 or -errno. src/native.ts documents it as sendDatagram. */
int SendDatagram(const std::string& address, const std::string& text);

}  // namespace composefs::sys
