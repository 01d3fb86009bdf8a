// Tables are known by number, so that all threads of a mount can use one. A table that is destroyed
// while another thread is in it goes when that thread is out.

#include "file_table_addon.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "file_table.h"
#include "js.h"

namespace composefs::files {
namespace {

using js::Arguments;
using js::ToDescriptor;
using js::ToValue;

using Table = std::shared_ptr<FileTable>;

/** PRELOAD_MAX of src/native.ts. */
constexpr double kPreloadMax = 1 << 20;
constexpr size_t kFactWords = std::tuple_size_v<sys::ObjectFacts>;

class Tables {
 public:
  uint32_t Add(Table table) {
    const std::lock_guard lock(mutex_);
    tables_[++last_] = std::move(table);
    return last_;
  }
  Table Find(double number) {
    const std::shared_lock lock(mutex_);
    const auto found = tables_.find(static_cast<uint32_t>(number));
    return found == tables_.end() ? nullptr : found->second;
  }
  bool Remove(double number) {
    const Table table = Find(number);  // Destroyed after the lock is free.
    // Those who still hold the table must not keep the connection alive, and its callers waiting.
    if (table != nullptr) {
      table->AllowPassthrough({kNoFd});
      table->AllowPreload({kNoFd});
    }
    const std::lock_guard lock(mutex_);
    return tables_.erase(static_cast<uint32_t>(number)) > 0;
  }

 private:
  std::shared_mutex mutex_;
  std::unordered_map<uint32_t, Table> tables_;
  uint32_t last_ = 0;
};

Tables& AllTables() {
  // Never destroyed: threads may still serve when the process exits.
  static auto& tables = *new Tables;
  return tables;
}

/** A table as one thread uses it, with the arrays that its calls fill or read. */
struct OpenFiles {
  Table table;
  std::span<const int64_t> facts;
  std::span<int64_t> backing;
  js::Pins<2> arrays;
  /** Of a file that is preloaded. */
  std::vector<uint8_t> content;
};

void FinalizeFiles(napi_env env, void* memory, void*) {
  const std::unique_ptr<OpenFiles> files(static_cast<OpenFiles*>(memory));
  files->arrays.Release(env);
}

napi_value CreateCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const auto open_max = static_cast<size_t>(args.Integer(0, 1, kTableSize));
  const auto idle_max = static_cast<size_t>(args.Integer(1, 0, kTableSize));
  if (!args.ok()) return nullptr;
  return ToValue(env, AllTables().Add(std::make_shared<FileTable>(open_max, idle_max)));
}

template <void (FileTable::*Method)(Fd)>
napi_value AllowCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const double number = args.Integer(0, 0, UINT32_MAX);
  const Fd device = ToDescriptor(args.Number(1));
  if (!args.ok()) return nullptr;
  const Table table = AllTables().Find(number);
  const Kind kind = KindOf(device.number);
  const bool is_device = kind == Kind::kDevice || kind == Kind::kSessionDevice;
  const int copy = table == nullptr || !is_device ? -EBADF : sys::Duplicate(device);
  if (copy >= 0) (table.get()->*Method)({copy});
  return ToValue(env, std::min(copy, 0));
}

napi_value DestroyCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const double number = args.Integer(0, 0, UINT32_MAX);
  if (!args.ok()) return nullptr;
  return ToValue(env, AllTables().Remove(number) ? 0 : -EBADF);
}

napi_value ConstructFiles(napi_env env, napi_callback_info info) {
  if (!js::IsConstruction(env, info, "OpenFiles")) return nullptr;
  Arguments args(env, info);
  const double number = args.Integer(0, 0, UINT32_MAX);
  const std::span<const int64_t> facts = args.Words(1);
  const std::span<int64_t> backing = args.Words(2);
  Table table = args.ok() ? AllTables().Find(number) : nullptr;
  if (table == nullptr) args.FailRange(0);
  if (facts.size() < kFactWords) args.FailRange(1);
  if (backing.empty()) args.FailRange(2);
  if (!args.ok()) return nullptr;
  auto files = std::make_unique<OpenFiles>(OpenFiles{std::move(table), facts, backing, {}, {}});
  if (!files->arrays.Add(env, args[1]) || !files->arrays.Add(env, args[2]) ||
      napi_wrap(env, args.self(), files.get(), FinalizeFiles, nullptr, nullptr) != napi_ok) {
    files->arrays.Release(env);
    napi_throw_type_error(env, nullptr, "the OpenFiles cannot be made");
    return nullptr;
  }
  files.release();
  return args.self();
}

/** The receiver is an OpenFiles for sure: see ReadCall in addon.cc. */
OpenFiles* FilesOf(napi_env env, Arguments& args) {
  void* memory = nullptr;
  if (!args.ok() || napi_unwrap(env, args.self(), &memory) != napi_ok) {
    napi_throw_type_error(env, nullptr, "the receiver is not an OpenFiles");
    return nullptr;
  }
  return static_cast<OpenFiles*>(memory);
}

uint64_t Nid(Arguments& args) {
  return static_cast<uint64_t>(args.Integer(0, 0, js::kTwoTo53));
}

napi_value Deliver(napi_env env, const OpenFiles& files, const FileAnswer& answer) {
  files.backing[0] = answer.backing_id;
  return ToValue(env, answer.fd);
}

template <FileAnswer (FileTable::*Method)(uint64_t)>
napi_value AcquireCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  const uint64_t nid = Nid(args);
  return args.ok() ? Deliver(env, *files, (*files->table.*Method)(nid)) : nullptr;
}

napi_value InsertCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  const uint64_t nid = Nid(args);
  const Fd fd = ToDescriptor(args.Number(1));
  const bool passthrough = args.Integer(2, 0, 1) != 0;
  if (!args.ok()) return nullptr;
  sys::ObjectFacts facts;
  std::copy_n(files->facts.begin(), facts.size(), facts.begin());
  return Deliver(env, *files, files->table->Insert(nid, fd, facts, passthrough));
}

napi_value ReleaseCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  const uint64_t nid = Nid(args);
  return args.ok() ? ToValue(env, files->table->Release(nid)) : nullptr;
}

napi_value PreloadCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  const uint64_t nid = Nid(args);
  const auto nodeid = static_cast<uint64_t>(args.Integer(1, 0, js::kTwoTo53));
  const auto size = static_cast<size_t>(args.Integer(2, 1, kPreloadMax));
  if (!args.ok()) return nullptr;
  if (files->content.size() < size) files->content.resize(size);
  const std::span<uint8_t> memory(files->content.data(), size);
  return ToValue(env, files->table->Preload(nid, nodeid, memory) ? 1 : 0);
}

napi_value UnloadCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  const uint64_t nid = Nid(args);
  if (args.ok()) files->table->Unload(nid);
  return nullptr;
}

napi_value ForgetCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  if (files == nullptr) return nullptr;
  files->table->Forget();
  return nullptr;
}

napi_value TrimCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  return files == nullptr ? nullptr : ToValue(env, files->table->Trim() ? 1 : 0);
}

napi_value BackingErrorCall(napi_env env, napi_callback_info info) {
  Arguments args(env, info);
  const OpenFiles* files = FilesOf(env, args);
  return files == nullptr ? nullptr : ToValue(env, files->table->backing_error());
}

}  // namespace

void RegisterTable(napi_env env, napi_value exports) {
  const napi_property_descriptor methods[] = {
      js::Method("acquire", AcquireCall<&FileTable::Acquire>),
      js::Method("acquireAny", AcquireCall<&FileTable::AcquireAny>),
      js::Method("insert", InsertCall),
      js::Method("release", ReleaseCall),
      js::Method("preload", PreloadCall),
      js::Method("unload", UnloadCall),
      js::Method("forget", ForgetCall),
      js::Method("trim", TrimCall),
      js::Method("backingError", BackingErrorCall)};
  napi_value files = nullptr;
  napi_define_class(env, "OpenFiles", NAPI_AUTO_LENGTH, ConstructFiles, nullptr, std::size(methods),
                    methods, &files);
  const napi_property_descriptor properties[] = {
      js::Method("createFileTable", CreateCall),
      js::Method("allowPassthrough", AllowCall<&FileTable::AllowPassthrough>),
      js::Method("allowPreload", AllowCall<&FileTable::AllowPreload>),
      js::Method("destroyFileTable", DestroyCall),
      {"OpenFiles", nullptr, nullptr, nullptr, nullptr, files, napi_enumerable, nullptr}};
  napi_define_properties(env, exports, std::size(properties), properties);
}

}  // namespace composefs::files
