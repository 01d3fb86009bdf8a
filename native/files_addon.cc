// The JavaScript side of scan.h and object_store.h: argument checks and work for the thread pool.
// Every piece of work owns its memory, so that no typed array can be detached below it.

#include "files_addon.h"

#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fd_guard.h"
#include "object_store.h"
#include "scan.h"

namespace composefs::files {
namespace {

/** Layout of one result of storeObjects; STORED_RECORD of src/native.ts. */
struct StoredRecord {
  int64_t status;
  uint8_t outcome;
  uint8_t padding[7];
  uint8_t digest[32];
};
static_assert(sizeof(StoredRecord) == 48);

Napi::Uint8Array ToBytes(Napi::Env env, const void* memory, size_t length) {
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, length);
  if (length > 0) memcpy(bytes.Data(), memory, length);
  return bytes;
}

/** Work whose result resolves a promise; it never rejects, failures are values. */
class PromiseWork : public Napi::AsyncWorker {
 public:
  explicit PromiseWork(Napi::Env env)
      : Napi::AsyncWorker(env, "composefs"), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  virtual Napi::Value Result(Napi::Env env) = 0;
  void OnOK() override { deferred_.Resolve(Result(Env())); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
};

class ScanWork final : public PromiseWork {
 public:
  ScanWork(Napi::Env env, std::string path, uint32_t flags, uint64_t inline_max)
      : PromiseWork(env), path_(std::move(path)), flags_(flags), inline_max_(inline_max) {}

 protected:
  void Execute() override {
    status_ = ScanDirectory(path_, flags_, inline_max_, records_, culprit_);
  }
  Napi::Value Result(Napi::Env env) override {
    if (status_ == 0) return ToBytes(env, records_.data(), records_.size());
    Napi::Object failure = Napi::Object::New(env);
    failure.Set("errno", status_);
    failure.Set("name", ToBytes(env, culprit_.data(), culprit_.size()));
    return failure;
  }

 private:
  const std::string path_;
  const uint32_t flags_;
  const uint64_t inline_max_;
  std::vector<uint8_t> records_;
  std::string culprit_;
  int status_ = 0;
};

class StoreWork final : public PromiseWork {
 public:
  StoreWork(Napi::Env env, FdGuard store, std::vector<uint8_t> paths)
      : PromiseWork(env), store_(std::move(store)), paths_(std::move(paths)) {}

 protected:
  void Execute() override {
    const auto variants = sha2::ImplementationsOf(sha2::kSha256);
    const verity::Parameters parameters = verity::MakeParameters(1, 4096, {}, variants[0]);
    stored_ = StoreObjects(parameters, store_.get(), paths_, std::numeric_limits<int64_t>::max());
  }
  Napi::Value Result(Napi::Env env) override {
    std::vector<StoredRecord> records(stored_.size());
    for (size_t i = 0; i < stored_.size(); i++) {
      records[i].status = stored_[i].measured.status;
      records[i].outcome = static_cast<uint8_t>(stored_[i].outcome);
      memcpy(records[i].digest, stored_[i].measured.digest.data(), sizeof(records[i].digest));
    }
    return ToBytes(env, records.data(), records.size() * sizeof(StoredRecord));
  }

 private:
  const FdGuard store_;
  const std::vector<uint8_t> paths_;
  std::vector<Stored> stored_;
};

/** The bytes of argument `i`; throws TypeError and returns false if it is no Uint8Array. */
bool GetBytes(const Napi::CallbackInfo& info, size_t i, std::vector<uint8_t>& bytes) {
  if (info[i].IsTypedArray() &&
      info[i].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto array = info[i].As<Napi::Uint8Array>();
    bytes.assign(array.Data(), array.Data() + array.ByteLength());
    return true;
  }
  const std::string message = "argument " + std::to_string(i + 1) + " must be a Uint8Array";
  Napi::TypeError::New(info.Env(), message).ThrowAsJavaScriptException();
  return false;
}

bool GetNumber(const Napi::CallbackInfo& info, size_t i, uint32_t& number) {
  if (info[i].IsNumber()) {
    const double value = info[i].As<Napi::Number>().DoubleValue();
    if (value >= 0 && value <= std::numeric_limits<uint32_t>::max() &&
        value == static_cast<uint32_t>(value)) {
      number = static_cast<uint32_t>(value);
      return true;
    }
  }
  const std::string message = "argument " + std::to_string(i + 1) + " must be an integer >= 0";
  Napi::TypeError::New(info.Env(), message).ThrowAsJavaScriptException();
  return false;
}

/** scanDirectory(path, flags, inlineMax) */
Napi::Value Scan(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> path;
  uint32_t flags = 0, inline_max = 0;
  if (!GetBytes(info, 0, path) || !GetNumber(info, 1, flags) || !GetNumber(info, 2, inline_max)) {
    return info.Env().Undefined();
  }
  // A record's content length has 16 bits.
  if (inline_max > 0xffff || memchr(path.data(), 0, path.size()) != nullptr) {
    Napi::RangeError::New(info.Env(), "a path without NUL and at most 65535 bytes of content")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  auto* work = new ScanWork(info.Env(), std::string(path.begin(), path.end()), flags, inline_max);
  const Napi::Promise promise = work->promise();
  work->Queue();  // Deletes itself when it is done.
  return promise;
}

/** storeObjects(basedirFd, paths) */
Napi::Value Store(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> paths;
  uint32_t number = 0;
  if (!GetNumber(info, 0, number) || !GetBytes(info, 1, paths)) return info.Env().Undefined();
  if (!paths.empty() && paths.back() != 0) {
    Napi::RangeError::New(info.Env(), "every path must end with a NUL")
        .ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const int fd = static_cast<int>(number);
  if (number >= kTableSize || KindOf(fd) != Kind::kBasedir) {
    return Napi::Number::New(info.Env(), -EBADF);
  }
  // A copy of its own: the caller may close the directory while this is at work.
  FdGuard store(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!store) return Napi::Number::New(info.Env(), -errno);
  auto* work = new StoreWork(info.Env(), std::move(store), std::move(paths));
  const Napi::Promise promise = work->promise();
  work->Queue();
  return promise;
}

}  // namespace

void Register(Napi::Env env, Napi::Object exports) {
  exports.Set("scanDirectory", Napi::Function::New(env, Scan, "scanDirectory"));
  exports.Set("storeObjects", Napi::Function::New(env, Store, "storeObjects"));
}

}  // namespace composefs::files
