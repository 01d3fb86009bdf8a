// The workloads of mount.mjs as a program that does little besides the system calls it measures.
//
//   workload walk ROOT         lists every directory and stats every entry
//   workload files ROOT        prints the paths of all regular files, one a line (not measured)
//   workload stat ROOT LIST    stats every path of the file LIST
//   workload read ROOT LIST    opens, reads and closes every path of LIST
//   workload big FILE          reads a file in pieces of 1 MiB
//   workload touch FILE        maps a file and touches every page
//
// Prints one line: operations, bytes, seconds.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

// `path` is a buffer that grows and shrinks with the depth; `print` is the mode `files`.
static void walk(int parent, const char *name, char *path, size_t length, int print) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) die(path);
  DIR *directory = fdopendir(fd);
  if (directory == NULL) die(path);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    struct stat status;
    if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) die(entry->d_name);
    operations++;
    size_t next = length + strlen(entry->d_name) + 1;
    if (next >= 65536) die("path too long");
    path[length] = '/';
    strcpy(path + length + 1, entry->d_name);
    if (S_ISDIR(status.st_mode)) walk(fd, entry->d_name, path, next, print);
    if (print && S_ISREG(status.st_mode)) puts(path + 1);
    path[length] = '\0';
  }
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

static char **load_list(const char *name, size_t *count) {
  FILE *file = fopen(name, "r");
  if (file == NULL) die(name);
  char **paths = NULL;
  char *line = NULL;
  size_t room = 0, capacity = 0;
  *count = 0;
  for (ssize_t length; (length = getline(&line, &room, file)) > 0;) {
    line[length - 1] = '\0';
    if (*count == capacity) {
      capacity = capacity == 0 ? 1024 : capacity * 2;
      paths = realloc(paths, capacity * sizeof *paths);
      if (paths == NULL) die("realloc");
    }
    paths[(*count)++] = strdup(line);
  }
  free(line);
  fclose(file);
  return paths;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: workload walk|files|stat|read|big|touch PATH [LIST]\n");
    return 2;
  }
  const char *mode = argv[1], *target = argv[2];
  double start;
  if (strcmp(mode, "walk") == 0 || strcmp(mode, "files") == 0) {
    static char path[65536];
    start = now();
    walk(AT_FDCWD, target, path, 0, mode[0] == 'f');
    if (mode[0] == 'f') return 0;
  } else if ((strcmp(mode, "stat") == 0 || strcmp(mode, "read") == 0) && argc == 4) {
    size_t count;
    char **paths = load_list(argv[3], &count);
    int root = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) die(target);
    start = now();
    for (size_t i = 0; i < count; i++) {
      operations++;
      if (mode[0] == 's') {
        struct stat status;
        if (fstatat(root, paths[i], &status, AT_SYMLINK_NOFOLLOW) != 0) die(paths[i]);
        continue;
      }
      int fd = openat(root, paths[i], O_RDONLY | O_CLOEXEC);
      if (fd < 0) die(paths[i]);
      read_all(fd, paths[i]);
      close(fd);
    }
  } else if (strcmp(mode, "big") == 0) {
    start = now();
    int fd = open(target, O_RDONLY | O_CLOEXEC);
    if (fd < 0) die(target);
    operations++;
    read_all(fd, target);
    close(fd);
  } else if (strcmp(mode, "touch") == 0) {
    int fd = open(target, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) die(target);
    start = now();
    volatile const char *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) die(target);
    for (off_t at = 0; at < status.st_size; at += 4096, operations++) bytes += (map[at] & 0) + 4096;
    close(fd);
  } else {
    errno = EINVAL;
    die(mode);
  }
  printf("%lu %lu %.9f\n", operations, bytes, now() - start);
  return 0;
}
