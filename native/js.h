// Arguments, results and pieces of work for the callbacks of plain Node-API, which the hot calls
// use instead of its C++ wrapper.

#pragma once

#include <napi.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "fd_guard.h"

namespace composefs::js {

constexpr double kTwoTo53 = 9007199254740992.0;
constexpr size_t kTextMax = 65535;

/**
 * The arguments of one call. The first wrong one leaves an exception pending, after which every
 * getter gives a harmless value and the callback must return without acting.
 */
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = values_.size();
    ok_ = napi_get_cb_info(env, info, &count, values_.data(), &self_, nullptr) == napi_ok;
  }
  bool ok() const { return ok_; }
  napi_value self() const { return self_; }
  napi_value operator[](size_t i) const { return values_[i]; }

  double Number(size_t i) {
    double number = 0;
    if (ok_ && napi_get_value_double(env_, values_[i], &number) != napi_ok) Fail(i, "a number");
    return number;
  }
  double Integer(size_t i, double min, double max) {
    const double number = Number(i);
    if (!ok_ || (number >= min && number <= max && number == std::trunc(number))) return number;
    FailRange(i);
    return min;
  }
  /** Also over a SharedArrayBuffer. A detached array has length 0. */
  std::span<uint8_t> Bytes(size_t i) { return Array<uint8_t>(i, napi_uint8_array, "a Uint8Array"); }
  std::span<int64_t> Words(size_t i) {
    return Array<int64_t>(i, napi_bigint64_array, "a BigInt64Array");
  }
  /** A string without NUL, of at most 65535 bytes. */
  std::string Text(size_t i) {
    size_t length = 0;
    if (!ok_) return {};
    if (napi_get_value_string_utf8(env_, values_[i], nullptr, 0, &length) != napi_ok) {
      Fail(i, "a string");
      return {};
    }
    std::string text(std::min(length, kTextMax) + 1, '\0');
    napi_get_value_string_utf8(env_, values_[i], text.data(), text.size(), nullptr);
    text.pop_back();
    if (length > kTextMax || text.find('\0') != std::string::npos) FailRange(i);
    return text;
  }
  void Fail(size_t i, const char* expected) {
    if (!ok_) return;
    ok_ = false;
    const std::string message = "argument " + std::to_string(i + 1) + " must be " + expected;
    napi_throw_type_error(env_, nullptr, message.c_str());
  }
  void FailRange(size_t i) {
    if (!ok_) return;
    ok_ = false;
    const std::string message = "argument " + std::to_string(i + 1) + " is out of its range";
    napi_throw_range_error(env_, nullptr, message.c_str());
  }

 private:
  template <typename Element>
  std::span<Element> Array(size_t i, napi_typedarray_type expected, const char* name) {
    bool is_array = false;
    napi_typedarray_type kind;
    size_t length = 0;
    void* memory = nullptr;
    if (!ok_) return {};
    if (napi_is_typedarray(env_, values_[i], &is_array) != napi_ok || !is_array ||
        napi_get_typedarray_info(env_, values_[i], &kind, &length, &memory, nullptr, nullptr) !=
            napi_ok ||
        kind != expected) {
      Fail(i, name);
      return {};
    }
    return {static_cast<Element*>(memory), length};
  }

  napi_env env_;
  std::array<napi_value, 9> values_;
  napi_value self_ = nullptr;
  bool ok_ = false;
};

inline napi_value ToValue(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

inline napi_value ToBytes(napi_env env, std::span<const uint8_t> bytes) {
  void* memory = nullptr;
  napi_value buffer = nullptr, array = nullptr;
  if (napi_create_arraybuffer(env, bytes.size(), &memory, &buffer) != napi_ok) return nullptr;
  if (!bytes.empty()) memcpy(memory, bytes.data(), bytes.size());
  napi_create_typedarray(env, napi_uint8_array, bytes.size(), buffer, 0, &array);
  return array;
}

/** A descriptor argument; numbers that no descriptor can have are kBadFd. */
inline Fd ToDescriptor(double number) {
  const bool is_fd = number >= 0 && number < kTableSize && number == std::trunc(number);
  return {is_fd ? static_cast<int>(number) : kBadFd};
}

/** Typed arrays whose memory is used after the call that brought them. */
template <size_t Count>
class Pins {
 public:
  bool Add(napi_env env, napi_value array) {
    return napi_create_reference(env, array, 1, &references_[used_++]) == napi_ok;
  }
  void Release(napi_env env) {
    for (napi_ref& reference : references_) {
      if (reference != nullptr) napi_delete_reference(env, reference);
      reference = nullptr;
    }
  }

 private:
  size_t used_ = 0;
  std::array<napi_ref, Count> references_ = {};
};

/** False, with a TypeError pending, unless called with `new`. */
inline bool IsConstruction(napi_env env, napi_callback_info info, const char* name) {
  napi_value new_target = nullptr;
  if (napi_get_new_target(env, info, &new_target) == napi_ok && new_target != nullptr) return true;
  napi_throw_type_error(env, nullptr, (std::string(name) + " must be called with new").c_str());
  return false;
}

inline napi_property_descriptor Method(const char* name, napi_callback callback) {
  return {name, nullptr, callback, nullptr, nullptr, nullptr, napi_default, nullptr};
}

/** A piece of work for libuv's thread pool and the promise of its result. */
class Work {
 public:
  virtual ~Work() = default;
  virtual void Run() = 0;  // In a pool thread.
  /** Back in the thread of JavaScript. Releases what the work has pinned. */
  virtual napi_value Result(napi_env env) = 0;

  /** The promise; or nullptr with an exception pending. */
  static napi_value Start(napi_env env, std::unique_ptr<Work> work) {
    napi_value promise = nullptr, name = nullptr;
    if (napi_create_string_utf8(env, "composefs", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_promise(env, &work->deferred_, &promise) != napi_ok ||
        napi_create_async_work(env, nullptr, name, Execute, Complete, work.get(), &work->work_) !=
            napi_ok ||
        napi_queue_async_work(env, work->work_) != napi_ok) {
      napi_throw_error(env, nullptr, "the thread pool takes no work");
      return nullptr;
    }
    work.release();  // Complete owns it.
    return promise;
  }

 private:
  static void Execute(napi_env, void* work) { static_cast<Work*>(work)->Run(); }
  static void Complete(napi_env env, napi_status status, void* memory) {
    const std::unique_ptr<Work> work(static_cast<Work*>(memory));
    napi_delete_async_work(env, work->work_);
    // Cancelled means that the environment ends, where no JavaScript runs any more.
    if (status == napi_cancelled) return;
    napi_value result = work->Result(env);
    if (result == nullptr) result = ToValue(env, -ENOMEM);
    napi_resolve_deferred(env, work->deferred_, result);
  }

  napi_async_work work_ = nullptr;
  napi_deferred deferred_ = nullptr;
};

}  // namespace composefs::js
