/* Loaded before the system's library: has one call below a folder fail, and notes all of them; or
 * records all that is changed there, for a model of what a disk keeps when the power goes.
 *
 * FAILING_BELOW   the folder
 * FAILING_CALL    open, write, fsync, rename, mkdir, symlink or unlink
 * FAILING_AT      the number of the first of them that fails, from 1
 * FAILING_UNTIL   the number of the last of them that fails
 * FAILING_ERRNO   with which number
 * FAILING_LOG     a file for a line on each call of any of these kinds: call, path, mode, result
 * FAILING_RECORD  a file for what succeeded, in its order; each a line with the call, two lengths and
 *                 a mode, then as many bytes: the path, and what was written or leads where
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long counted;

static long number(const char *name) {
    const char *value = getenv(name);
    return value ? atol(value) : 0;
}

static int is_below(const char *path) {
    const char *folder = getenv("FAILING_BELOW");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static void note(const char *call, const char *path, unsigned mode, int failed) {
    const char *log = getenv("FAILING_LOG");
    char line[PATH_MAX + 64];
    if (!log) return;
    int length = snprintf(line, sizeof line, "%s %s %o %d\n", call, path, mode, failed);
    long file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return;
    syscall(SYS_write, file, line, (size_t)length);
    syscall(SYS_close, file);
}

/* Puts what has succeeded on record; what is not there yet when the power goes, was not done. */
static void record(const char *call, const char *path, const void *more, size_t size, unsigned mode) {
    const char *log = getenv("FAILING_RECORD");
    char head[128];
    if (!log || !is_below(path)) return;
    int before = errno;
    size_t path_size = strlen(path);
    int head_size = snprintf(head, sizeof head, "%s %zu %zu %o\n", call, path_size, size, mode);
    struct iovec parts[] = {
        {head, (size_t)head_size}, {(void *)path, path_size}, {(void *)more, size}};
    long file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file >= 0) {
        syscall(SYS_writev, file, parts, 3);
        syscall(SYS_close, file);
    }
    errno = before;
}

/* Whether this call fails; errno is set then. */
static int fails(const char *call, const char *path, unsigned mode) {
    if (!is_below(path)) return 0;
    const char *wanted = getenv("FAILING_CALL");
    int failed = 0;
    if (wanted && strcmp(wanted, call) == 0) {
        long now = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
        failed = now >= number("FAILING_AT") && now <= number("FAILING_UNTIL");
    }
    note(call, path, mode, failed);
    if (failed) errno = (int)number("FAILING_ERRNO");
    return failed;
}

static const char *path_of(int file, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return path;
}

#define REAL(result, name, ...)                                     \
    static result (*real)(__VA_ARGS__);                             \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int is_made(int flags) { return (flags & (O_CREAT | __O_TMPFILE)) != 0; }

#define OPENING(name)                                               \
    int name(const char *path, int flags, ...) {                    \
        REAL(int, #name, const char *, int, ...);                   \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = is_made(flags) ? va_arg(rest, mode_t) : 0;    \
        va_end(rest);                                               \
        if (is_made(flags) && fails("open", path, mode)) return -1; \
        int file = real(path, flags, mode);                         \
        if (is_made(flags) && file >= 0) record("open", path, 0, 0, mode); \
        return file;                                                \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                            \
    int name(int at, const char *path, int flags, ...) {            \
        REAL(int, #name, int, const char *, int, ...);              \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = is_made(flags) ? va_arg(rest, mode_t) : 0;    \
        va_end(rest);                                               \
        if (is_made(flags) && fails("open", path, mode)) return -1; \
        int file = real(at, path, flags, mode);                     \
        if (is_made(flags) && file >= 0) record("open", path, 0, 0, mode); \
        return file;                                                \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

ssize_t write(int file, const void *bytes, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    char path[PATH_MAX];
    if (fails("write", path_of(file, path), 0)) return -1;
    ssize_t written = real(file, bytes, count);
    if (written > 0) record("write", path, bytes, (size_t)written, 0);
    return written;
}

#define FLUSHING(name)                                              \
    int name(int file) {                                            \
        REAL(int, #name, int);                                      \
        char path[PATH_MAX];                                        \
        if (fails("fsync", path_of(file, path), 0)) return -1;      \
        int result = real(file);                                    \
        if (result == 0) record("fsync", path, 0, 0, 0);            \
        return result;                                              \
    }
FLUSHING(fsync)
FLUSHING(fdatasync)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (fails("rename", from, 0)) return -1;
    int result = real(from, to);
    if (result == 0) record("rename", from, to, strlen(to), 0);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    if (fails("mkdir", path, mode)) return -1;
    int result = real(path, mode);
    if (result == 0) record("mkdir", path, 0, 0, mode);
    return result;
}

int symlink(const char *target, const char *path) {
    REAL(int, "symlink", const char *, const char *);
    if (fails("symlink", path, 0)) return -1;
    int result = real(target, path);
    if (result == 0) record("symlink", path, target, strlen(target), 0);
    return result;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (fails("unlink", path, 0)) return -1;
    int result = real(path);
    if (result == 0) record("unlink", path, 0, 0, 0);
    return result;
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    int result = real(path);
    if (result == 0) record("unlink", path, 0, 0, 0);
    return result;
}

int unlinkat(int at, const char *name, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char path[PATH_MAX];
    int result = real(at, name, flags);
    if (result != 0) return result;
    if (name[0] == '/') {
        record("unlink", name, 0, 0, 0);
    } else if (strlen(path_of(at, path)) + strlen(name) + 2 < sizeof path) {
        strcat(strcat(path, "/"), name);
        record("unlink", path, 0, 0, 0);
    }
    return result;
}

int chmod(const char *path, mode_t mode) {
    REAL(int, "chmod", const char *, mode_t);
    int result = real(path, mode);
    if (result == 0) record("chmod", path, 0, 0, mode);
    return result;
}

int fchmod(int file, mode_t mode) {
    REAL(int, "fchmod", int, mode_t);
    char path[PATH_MAX];
    int result = real(file, mode);
    if (result == 0) record("chmod", path_of(file, path), 0, 0, mode);
    return result;
}
