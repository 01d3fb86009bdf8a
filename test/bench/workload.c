// The workloads of the mount benchmark as a program that does little besides the system calls it
// measures. Prints one line: operations, bytes, seconds. Any failure is an exit code that is not 0,
// so that a run that could not do its work is never taken for a fast one.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: workload MODE ARGUMENTS\n"
    "  walk ROOT             lists every directory and stats every entry\n"
    "  walkers COUNT ROOT    the same by COUNT processes at once, which share out ROOT's entries\n"
    "  xattr ROOT            a walk that asks every file for security.selinux and user.note\n"
    "  list DIR              reads the names of one directory\n"
    "  stat ROOT LIST        stats every path of the file LIST\n"
    "  read ROOT LIST        opens, reads and closes every path of LIST\n"
    "  sequential FILE       reads a file in pieces of 1 MiB\n"
    "  random FILE COUNT     reads COUNT pieces of 4 KiB from all over a file\n"
    "  map FILE              maps a file and touches every page\n"
    "  pipe COMMAND...       runs a command and reads what it prints\n"
    "  chroot ROOT COMMAND... the same, with ROOT as the command's root directory\n"
    "  label DIR             gives every file below DIR the attributes that `xattr` asks for\n";

enum { PATH_BYTES = 65536, PAGE_BYTES = 4096 };
enum look { STAT_ONLY, ASK_XATTRS, SET_XATTRS };

static const char *const attribute_names[] = {"security.selinux", "user.note"};
static unsigned long operations;
static unsigned long bytes;
static char buffer[1 << 20];

static void die(const char *what) {
  fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

static DIR *open_directory(int parent, const char *name, const char *path) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  DIR *directory = fd < 0 ? NULL : fdopendir(fd);
  if (directory == NULL) die(path);
  return directory;
}

static void ask_xattrs(const char *path) {
  char value[1024];
  for (size_t i = 0; i < 2; i++) {
    ssize_t got = lgetxattr(path, attribute_names[i], value, sizeof value);
    if (got < 0 && errno != ENODATA) die(path);
    if (got > 0) bytes += (unsigned long)got;
  }
}

// Every file has a label that it shares with many and a note of its own, as in a labelled system.
static void set_xattrs(const char *path) {
  char value[1024];
  int length = snprintf(value, sizeof value, "system_u:object_r:type_%lu_t:s0", operations % 50);
  if (lsetxattr(path, attribute_names[0], value, (size_t)length + 1, 0) != 0) die(path);
  length = snprintf(value, sizeof value, "note %lu: %0560lu", operations, operations);
  if (lsetxattr(path, attribute_names[1], value, (size_t)length, 0) != 0) die(path);
}

// `path` is a buffer that grows and shrinks with the depth. Of the entries of this directory only
// those whose place is `share` modulo `shares` are visited.
static void walk(int parent, const char *name, char *path, size_t length, enum look look,
                 unsigned share, unsigned shares) {
  DIR *directory = open_directory(parent, name, path);
  int fd = dirfd(directory);
  unsigned place = 0;
  errno = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL; errno = 0) {
    if (is_dot(entry->d_name) || place++ % shares != share) continue;
    size_t next = length + strlen(entry->d_name) + 1;
    if (next >= PATH_BYTES) die("path too long");
    path[length] = '/';
    strcpy(path + length + 1, entry->d_name);
    struct stat status;
    if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) die(path);
    operations++;
    if (look != STAT_ONLY && S_ISREG(status.st_mode)) {
      if (look == ASK_XATTRS) ask_xattrs(path);
      else set_xattrs(path);
    }
    if (S_ISDIR(status.st_mode)) walk(fd, entry->d_name, path, next, look, 0, 1);
    path[length] = '\0';
  }
  if (errno != 0) die(path);
  closedir(directory);
}

static void walk_root(const char *root, enum look look, unsigned share, unsigned shares) {
  static char path[PATH_BYTES];
  size_t length = strlen(root);
  if (length >= PATH_BYTES) die("path too long");
  strcpy(path, root);
  walk(AT_FDCWD, root, path, length, look, share, shares);
}

static void must_succeed(pid_t child) {
  int status;
  if (waitpid(child, &status, 0) < 0) die("waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  fprintf(stderr, "workload: a child process failed\n");
  exit(1);
}

static void walkers(unsigned count, const char *root) {
  if (count == 0 || count > 64) die("walkers: 1 to 64");
  pid_t children[64];
  unsigned long *visited = mmap(NULL, count * sizeof *visited, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (visited == MAP_FAILED) die("mmap");
  for (unsigned i = 0; i < count; i++) {
    children[i] = fork();
    if (children[i] < 0) die("fork");
    if (children[i] > 0) continue;
    walk_root(root, STAT_ONLY, i, count);
    visited[i] = operations;
    _exit(0);
  }
  for (unsigned i = 0; i < count; i++) {
    must_succeed(children[i]);
    operations += visited[i];
  }
}

static void list(const char *name) {
  DIR *directory = open_directory(AT_FDCWD, name, name);
  errno = 0;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL; errno = 0)
    if (!is_dot(entry->d_name)) operations++;
  if (errno != 0) die(name);
  closedir(directory);
}

static void read_all(int fd, const char *name) {
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0) die(name);
    if (got == 0) return;
    bytes += (unsigned long)got;
  }
}

static int open_file(int directory, const char *name) {
  int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(name);
  return fd;
}

static off_t size_of(int fd, const char *name) {
  struct stat status;
  if (fstat(fd, &status) != 0) die(name);
  return status.st_size;
}

static void read_sequentially(const char *name) {
  int fd = open_file(AT_FDCWD, name);
  read_all(fd, name);
  operations++;
  close(fd);
}

static void read_randomly(const char *name, unsigned long count) {
  int fd = open_file(AT_FDCWD, name);
  off_t pages = size_of(fd, name) / PAGE_BYTES;
  if (pages == 0) die("a file of less than a page");
  uint64_t state = 0x9e3779b97f4a7c15; // Any seed: every mount gets the same sequence.
  for (; operations < count; operations++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    off_t at = (off_t)(state % (uint64_t)pages) * PAGE_BYTES;
    if (pread(fd, buffer, PAGE_BYTES, at) != PAGE_BYTES) die(name);
    bytes += PAGE_BYTES;
  }
  close(fd);
}

static void touch_pages(const char *name) {
  int fd = open_file(AT_FDCWD, name);
  off_t size = size_of(fd, name);
  const volatile char *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) die(name);
  for (off_t at = 0; at < size; at += PAGE_BYTES, operations++) (void)map[at];
  bytes += (unsigned long)size;
  close(fd);
}

static void run_command(const char *root, char **command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) die("pipe");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    if (root != NULL && (chroot(root) != 0 || chdir("/") != 0)) die(root);
    if (dup2(ends[1], STDOUT_FILENO) < 0) die("dup2");
    execvp(command[0], command);
    die(command[0]);
  }
  close(ends[1]);
  read_all(ends[0], command[0]);
  must_succeed(child);
  operations++;
}

struct list {
  char **paths;
  size_t count;
};

static struct list load_list(const char *name) {
  FILE *file = fopen(name, "r");
  if (file == NULL) die(name);
  struct list list = {NULL, 0};
  char *line = NULL;
  size_t room = 0, capacity = 0;
  for (ssize_t length; (length = getline(&line, &room, file)) > 0;) {
    line[length - 1] = '\0';
    if (list.count == capacity) {
      capacity = capacity == 0 ? 1024 : capacity * 2;
      list.paths = realloc(list.paths, capacity * sizeof *list.paths);
      if (list.paths == NULL) die("realloc");
    }
    list.paths[list.count] = strdup(line);
    if (list.paths[list.count++] == NULL) die("strdup");
  }
  free(line);
  fclose(file);
  return list;
}

static void stat_each(int root, struct list list) {
  for (; operations < list.count; operations++) {
    struct stat status;
    const char *path = list.paths[operations];
    if (fstatat(root, path, &status, AT_SYMLINK_NOFOLLOW) != 0) die(path);
  }
}

static void read_each(int root, struct list list) {
  for (; operations < list.count; operations++) {
    int fd = open_file(root, list.paths[operations]);
    read_all(fd, list.paths[operations]);
    close(fd);
  }
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "", *first = argc > 2 ? argv[2] : NULL;
  struct list paths = {NULL, 0};
  int root = -1;
  int has_list = argc == 4 && (strcmp(mode, "stat") == 0 || strcmp(mode, "read") == 0);
  if (has_list) {
    paths = load_list(argv[3]);
    root = open(first, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) die(first);
  }
  double start = now();
  if (has_list && mode[0] == 's') stat_each(root, paths);
  else if (has_list) read_each(root, paths);
  else if (argc == 3 && strcmp(mode, "walk") == 0) walk_root(first, STAT_ONLY, 0, 1);
  else if (argc == 3 && strcmp(mode, "xattr") == 0) walk_root(first, ASK_XATTRS, 0, 1);
  else if (argc == 3 && strcmp(mode, "label") == 0) walk_root(first, SET_XATTRS, 0, 1);
  else if (argc == 3 && strcmp(mode, "list") == 0) list(first);
  else if (argc == 3 && strcmp(mode, "sequential") == 0) read_sequentially(first);
  else if (argc == 3 && strcmp(mode, "map") == 0) touch_pages(first);
  else if (argc == 4 && strcmp(mode, "random") == 0) read_randomly(first, strtoul(argv[3], 0, 10));
  else if (argc == 4 && strcmp(mode, "walkers") == 0)
    walkers((unsigned)strtoul(first, NULL, 10), argv[3]);
  else if (argc >= 3 && strcmp(mode, "pipe") == 0) run_command(NULL, argv + 2);
  else if (argc >= 4 && strcmp(mode, "chroot") == 0) run_command(first, argv + 3);
  else {
    fputs(usage, stderr);
    return 2;
  }
  printf("%lu %lu %.9f\n", operations, bytes, now() - start);
  return 0;
}
