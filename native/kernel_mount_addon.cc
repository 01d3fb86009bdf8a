// The JavaScript side of kernel_mount.h: argument checks and work for the thread pool.

#include "kernel_mount_addon.h"

#include <sys/stat.h>

#include <utility>

#include "fs_context_addon.h"
#include "js.h"
#include "kernel_mount.h"

namespace composefs::kernel {
namespace {

constexpr double kWordMax = UINT32_MAX;

class MountWork final : public js::Work {
 public:
  explicit MountWork(Plan plan) : plan_(std::move(plan)) {}
  void Run() override { outcome_ = Mount(plan_); }
  napi_value Result(napi_env env) override { return ToFailure(env, outcome_); }

 private:
  const Plan plan_;
  MountOutcome outcome_;
};

/** A copy of its own: the caller may close the file while this is at work. Files only: no device.
 */
FdGuard CopyFile(double number) {
  const Fd fd = js::ToDescriptor(number);
  struct stat st;
  if (fd.number < 0 || fstat(fd.number, &st) < 0 || !S_ISREG(st.st_mode)) {
    errno = EBADF;
    return FdGuard();
  }
  return FdGuard(fcntl(fd.number, F_DUPFD_CLOEXEC, 0));
}

/** mountKernel(image, mountpoint, erofsOptions, overlayOptions, basedirs, upper, idmap, attributes,
 * ways) */
napi_value MountCall(napi_env env, napi_callback_info info) {
  js::Arguments args(env, info);
  Plan plan;
  const double image = args.Number(0);
  plan.mountpoint = args.Text(1);
  std::vector<std::string>* const lists[] = {&plan.erofs_options, &plan.overlay_options, &plan.data,
                                             &plan.upper};
  for (size_t i = 0; i < std::size(lists); i++) {
    const std::span<uint8_t> packed = args.Bytes(2 + i);
    if (args.ok() && !UnpackStrings(packed, *lists[i])) args.FailRange(2 + i);
  }
  if (args.ok() && !plan.upper.empty() && plan.upper.size() != 2) args.FailRange(5);
  const double idmap = args.Number(6);
  plan.attributes = static_cast<uint32_t>(args.Integer(7, 0, kWordMax));
  plan.ways = static_cast<uint32_t>(args.Integer(8, 0, kWordMax));
  if (!args.ok()) return nullptr;
  plan.image = CopyFile(image);
  if (!plan.image) return js::ToValue(env, -errno);
  if (idmap >= 0) {
    plan.idmap = CopyFile(idmap);
    if (!plan.idmap) return js::ToValue(env, -errno);
  }
  return js::Work::Start(env, std::make_unique<MountWork>(std::move(plan)));
}

}  // namespace

void Register(napi_env env, napi_value exports) {
  const napi_property_descriptor properties[] = {js::Method("mountKernel", MountCall)};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::kernel
