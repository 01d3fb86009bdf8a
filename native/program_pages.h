// The pages of programs and libraries that are mapped into this process.

#pragma once

namespace composefs::sys {

/** src/native.ts: releaseProgramPages. */
int ReleaseProgramPages();

}  // namespace composefs::sys
