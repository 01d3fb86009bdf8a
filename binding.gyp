{
  "variables": { "sanitize%": 0 },
  "targets": [
    {
      "target_name": "composefs_native",
      "sources": [
        "native/addon.cc", "native/content_tree.cc", "native/crew.cc", "native/datagram.cc",
        "native/file_table.cc",
        "native/file_table_addon.cc", "native/files_addon.cc",
        "native/io_ring.cc", "native/kernel_mount.cc", "native/kernel_mount_addon.cc",
        "native/loop_device.cc", "native/object_guard.cc", "native/object_guard_addon.cc",
        "native/object_store.cc", "native/overlay_mount.cc", "native/overlay_mount_addon.cc",
        "native/polling.cc", "native/program_pages.cc", "native/ring_session.cc",
        "native/ring_session_addon.cc", "native/scan.cc", "native/session.cc", "native/sys.cc",
        "native/verity.cc", "native/verity_addon.cc",
        "native/verity_sha2.cc", "native/verity_sha2_x86.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
      "cflags_cc": [
        # C++20; Node itself is built without exceptions and RTTI, and so are we.
        "-std=c++20", "-fno-exceptions", "-fno-rtti",
        # Warnings are errors: this code runs with privilege and faces descriptors from outside.
        "-Wall", "-Wextra", "-Werror",
        # Only the module's entry point is exported.
        "-fvisibility=hidden",
        # Hardening: stack canaries, checked libc calls, stack-clash probes.
        "-fstack-protector-strong", "-fstack-clash-protection", "-O2"
      ],
      # Relocations read-only after start, everything bound at load: no lazy PLT to overwrite.
      # Never unloaded: the table of descriptors must outlive the worker that loaded the addon.
      "ldflags": ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,nodelete"],
      "conditions": [
        ["sanitize==1", {
          "cflags_cc": ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address,undefined"]
        }, {
          "cflags_cc": ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]
        }]
      ]
    }
  ]
}
