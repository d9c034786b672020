/* Counts the calls that change files below one directory, and makes a chosen one fail or kill the process.
 *
 * Loaded with LD_PRELOAD and armed through `fault_arm` (ctypes) in the process under test:
 *
 *     root    the directory; "" disarms. Calls on other files are passed through and not counted.
 *     at      number of the call that the fault hits, from 1 (0: count only)
 *     when    BEFORE the call is carried out, AFTER it, or HALF of a write
 *     kind    KILL the process, or fail: with `code` ONCE, or from then ON
 *     kill_at number of the call before which the process is killed, whatever happened until then (0: none)
 *     shadow  "" or a directory in which the state of every file and directory is kept as of its last fsync
 *
 * `fsync` itself never reaches the disk: neither a killed process nor the simulated power loss needs it.
 * What does not come through here: writes to memory maps (octavo.db-shm, which SQLite rebuilds), stdio inside the C
 * library (usearch's save, which the fsync after it makes whole), and system calls made without the C library.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BEFORE, AFTER, HALF };
enum { KILL, ONCE, ON };
enum { CREATES = 1, WRITES = 2, SYNCS = 4, REMOVES = 8 };

static char root[PATH_MAX], shadow[PATH_MAX], hit[PATH_MAX];
static size_t root_len;
static long at, kill_at;
static int when, kind, code;
static atomic_long calls;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

void fault_arm(const char *dir, long at_, int when_, int kind_, int code_, long kill_at_, const char *shadow_)
{
    at = at_, when = when_, kind = kind_, code = code_, kill_at = kill_at_;
    atomic_store(&calls, 0);
    hit[0] = 0;
    strcpy(shadow, shadow_);
    root_len = strlen(dir);
    strcpy(root, dir);
}

long fault_calls(void) { return atomic_load(&calls); }
const char *fault_hit(void) { return hit; }

static int below(const char *path)
{
    return root_len && !strncmp(path, root, root_len) && (path[root_len] == '/' || path[root_len] == 0);
}

static int of_fd(int fd, char *out)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n < 0 ? 0 : n] = 0;
    return n > 0;
}

static const char *resolve(int dir, const char *path, char *out)
{
    if (path[0] == '/') return path;
    char base[PATH_MAX] = "";
    if (dir == AT_FDCWD ? !getcwd(base, sizeof base) : !of_fd(dir, base)) return path;
    if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return path;
    return out;
}

/* A name for an inode that is never used again, unlike its number; those of directories end in D. */
int fault_key(const char *path, char *out, size_t size)
{
    struct statx s;
    if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, &s)) return -1;
    snprintf(out, size, "%llx-%llx-%x%s", (unsigned long long)s.stx_ino, (unsigned long long)s.stx_btime.tv_sec,
             s.stx_btime.tv_nsec, S_ISDIR(s.stx_mode) ? "D" : "");
    return 0;
}

/* Keep the content of a file, or the names in a directory, as of now. One thread at a time: two that shared a draft left
 * a state that no disk ever had, and the older of two listings could take the place of the newer. */
static pthread_mutex_t remembering = PTHREAD_MUTEX_INITIALIZER;

static void remember_now(const char *path)
{
    char key[128], draft[PATH_MAX + 200], name[PATH_MAX + 200], child[PATH_MAX + 300], buffer[65536];
    struct stat s;
    if (lstat(path, &s) || fault_key(path, key, sizeof key)) return;
    snprintf(draft, sizeof draft, "%s/draft", shadow);
    snprintf(name, sizeof name, "%s/%s", shadow, key);
    int out = REAL(open)(draft, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (S_ISDIR(s.st_mode)) {
        DIR *dir = opendir(path);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
            snprintf(child, sizeof child, "%s/%s", path, e->d_name);
            if (!fault_key(child, key, sizeof key))
                REAL(write)(out, buffer, snprintf(buffer, sizeof buffer, "%s %s\n", key, e->d_name));
        }
        if (dir) closedir(dir);
    } else {
        int in = REAL(open)(path, O_RDONLY);
        for (ssize_t n; in >= 0 && (n = read(in, buffer, sizeof buffer)) > 0;) REAL(write)(out, buffer, n);
        if (in >= 0) close(in);
    }
    close(out);
    REAL(rename)(draft, name);
}

static void remember(const char *path)
{
    pthread_mutex_lock(&remembering);
    remember_now(path);
    pthread_mutex_unlock(&remembering);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a call. 0: carry it out; 1: carry it out, then `after`; 2: half of it, then `after`; -1: fail, errno is set. */
static int before(const char *what, const char *path, int does)
{
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (kill_at && n >= kill_at) die();
    if (!at || n < at || (n > at && kind != ON)) return 0;
    if (n == at && when == HALF && !(does & WRITES)) return at++, 0; /* the next write, then */
    if (kind == ON && n > at && code == ENOSPC && (does & REMOVES)) return 0;
    if (n == at) snprintf(hit, sizeof hit, "%s %s", what, path + root_len);
    if (n == at && when == AFTER) return 1;
    if (n == at && when == HALF) return 2;
    if (kind == KILL) die();
    errno = code;
    return -1;
}

static ssize_t after(int state, ssize_t result)
{
    if (!state) return result;
    if (kind == KILL) die();
    if (state == 2) return result; /* a short write is no error */
    errno = code;
    return -1;
}

#define INTERCEPT(what, path, does, call)                     \
    do {                                                      \
        int state = before(what, path, does);                 \
        return state < 0 ? -1 : after(state, call);           \
    } while (0)

#define OPEN(NAME)                                                                  \
    int NAME(const char *path, int flags, ...)                                      \
    {                                                                               \
        char full[PATH_MAX];                                                        \
        va_list list;                                                               \
        va_start(list, flags);                                                      \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0;   \
        va_end(list);                                                               \
        const char *where = resolve(AT_FDCWD, path, full);                          \
        if (!(flags & O_CREAT) || !below(where)) return REAL(NAME)(path, flags, mode); \
        INTERCEPT("open", where, CREATES, REAL(NAME)(path, flags, mode));           \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(NAME)                                                                \
    int NAME(int dir, const char *path, int flags, ...)                             \
    {                                                                               \
        char full[PATH_MAX];                                                        \
        va_list list;                                                               \
        va_start(list, flags);                                                      \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0;   \
        va_end(list);                                                               \
        const char *where = resolve(dir, path, full);                               \
        if (!(flags & O_CREAT) || !below(where)) return REAL(NAME)(dir, path, flags, mode); \
        INTERCEPT("open", where, CREATES, REAL(NAME)(dir, path, flags, mode));      \
    }
OPENAT(openat)
OPENAT(openat64)

/* `part` is the call for half of the bytes */
#define ON_FD(what, fd, does, call, part)                                           \
    char full[PATH_MAX];                                                            \
    if (!root_len || !of_fd(fd, full) || !below(full)) return call;                 \
    int state = before(what, full, does);                                           \
    return state < 0 ? -1 : after(state, state == 2 ? part : call)

ssize_t write(int fd, const void *data, size_t n)
{
    ON_FD("write", fd, WRITES, REAL(write)(fd, data, n), REAL(write)(fd, data, (n + 1) / 2));
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    ON_FD("pwrite", fd, WRITES, REAL(pwrite)(fd, data, n, offset), REAL(pwrite)(fd, data, (n + 1) / 2, offset));
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset)
{
    ON_FD("pwrite", fd, WRITES, REAL(pwrite64)(fd, data, n, offset), REAL(pwrite64)(fd, data, (n + 1) / 2, offset));
}
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ON_FD("writev", fd, WRITES, REAL(writev)(fd, parts, count), REAL(writev)(fd, parts, (count + 1) / 2));
}
ssize_t sendfile(int out, int in, off_t *offset, size_t n)
{
    ON_FD("sendfile", out, WRITES, REAL(sendfile)(out, in, offset, n), REAL(sendfile)(out, in, offset, (n + 1) / 2));
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t n)
{
    ON_FD("sendfile", out, WRITES, REAL(sendfile64)(out, in, offset, n), REAL(sendfile64)(out, in, offset, (n + 1) / 2));
}
int ftruncate(int fd, off_t n) { ON_FD("ftruncate", fd, CREATES, REAL(ftruncate)(fd, n), -1); }
int ftruncate64(int fd, off64_t n) { ON_FD("ftruncate", fd, CREATES, REAL(ftruncate64)(fd, n), -1); }

static int keep(const char *path)
{
    if (shadow[0]) remember(path);
    return 0;
}
int fsync(int fd) { ON_FD("fsync", fd, SYNCS, keep(full), -1); }
int fdatasync(int fd) { ON_FD("fdatasync", fd, SYNCS, keep(full), -1); }

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    char full[PATH_MAX];
    const char *where = resolve(to_dir, to, full);
    if (!below(where)) return REAL(renameat)(from_dir, from, to_dir, to);
    INTERCEPT("rename", where, CREATES, REAL(renameat)(from_dir, from, to_dir, to));
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    char full[PATH_MAX];
    const char *where = resolve(to_dir, to, full);
    if (!below(where)) return REAL(renameat2)(from_dir, from, to_dir, to, flags);
    INTERCEPT("rename", where, CREATES, REAL(renameat2)(from_dir, from, to_dir, to, flags));
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char full[PATH_MAX];
    const char *where = resolve(to_dir, to, full);
    if (!below(where)) return REAL(linkat)(from_dir, from, to_dir, to, flags);
    INTERCEPT("link", where, CREATES, REAL(linkat)(from_dir, from, to_dir, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags)
{
    char full[PATH_MAX];
    const char *where = resolve(dir, path, full);
    if (!below(where)) return REAL(unlinkat)(dir, path, flags);
    INTERCEPT("unlink", where, REMOVES, REAL(unlinkat)(dir, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    const char *where = resolve(dir, path, full);
    if (!below(where)) return REAL(mkdirat)(dir, path, mode);
    INTERCEPT("mkdir", where, CREATES, REAL(mkdirat)(dir, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
