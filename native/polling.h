// Whether to look for the next request for some microseconds before sleeping. A caller that has its
// answer often asks again at once; then looking saves the time to be woken up. Each look gives the
// CPU away to whoever wants it, so that a machine without an idle CPU loses next to nothing.

#pragma once

#include <cstdint>

#include "crew.h"

namespace composefs {

class Polling {
 public:
  /** 0 forbids it. `adaptive`: stops by itself where it does not pay. */
  void Set(int64_t limit_ns, bool adaptive) {
    limit_ns_ = limit_ns;
    adaptive_ = adaptive;
  }

  /** After a reply. Whether to look; `crew` may be nullptr. */
  bool Begin(Crew* crew);
  /** After a look that found nothing, with the CPU given away meanwhile: whether to look again. */
  bool GoOn();
  /** Whether a request was found. */
  void End(Crew* crew, bool found);

 private:
  int64_t limit_ns_ = 0;
  bool adaptive_ = false;
  int64_t deadline_ns_ = 0;
  int64_t yielded_ns_ = 0;
  /** Without success, in a row. */
  uint32_t failures_ = 0;
  /** Replies after which not to look. */
  uint32_t pause_ = 0;
};

}  // namespace composefs
