// The JavaScript side of overlay_mount.h: argument checks and work for the thread pool, since the
// kernel asks the FUSE mount while the overlay is made.

#include "overlay_mount_addon.h"

#include <utility>

#include "fs_context_addon.h"
#include "js.h"
#include "overlay_mount.h"

namespace composefs::overlay {
namespace {

constexpr double kWordMax = UINT32_MAX;

class StackWork final : public js::Work {
 public:
  explicit StackWork(Plan plan) : plan_(std::move(plan)) {}
  void Run() override { outcome_ = Stack(plan_); }
  napi_value Result(napi_env env) override {
    if (outcome_.error == 0) return js::ToValue(env, 0);
    return ToFailure(env, outcome_);
  }

 private:
  const Plan plan_;
  Outcome outcome_;
};

/** stackOverlay(mountpoint, deviceMajor, deviceMinor, options, basedirs, attributes) */
napi_value StackCall(napi_env env, napi_callback_info info) {
  js::Arguments args(env, info);
  Plan plan;
  plan.mountpoint = args.Text(0);
  plan.device_major = static_cast<uint32_t>(args.Integer(1, 0, kWordMax));
  plan.device_minor = static_cast<uint32_t>(args.Integer(2, 0, kWordMax));
  const std::span<uint8_t> options = args.Bytes(3);
  const std::span<int64_t> basedirs = args.Words(4);
  plan.attributes = static_cast<uint32_t>(args.Integer(5, 0, kWordMax));
  if (args.ok() && !UnpackStrings(options, plan.options)) args.FailRange(3);
  if (!args.ok()) return nullptr;
  for (const int64_t number : basedirs) {
    const Fd fd = js::ToDescriptor(static_cast<double>(number));
    if (KindOf(fd.number) != Kind::kBasedir) return js::ToValue(env, -EBADF);
    // A copy of its own: the caller may close the directory while this is at work.
    FdGuard copy(fcntl(fd.number, F_DUPFD_CLOEXEC, 0));
    if (!copy) return js::ToValue(env, -errno);
    plan.data.push_back(std::move(copy));
  }
  return js::Work::Start(env, std::make_unique<StackWork>(std::move(plan)));
}

}  // namespace

void Register(napi_env env, napi_value exports) {
  const napi_property_descriptor properties[] = {js::Method("stackOverlay", StackCall)};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::overlay
