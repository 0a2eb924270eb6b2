/* Watches the calls by which a process changes the files of one folder, to end the process at one of them, or to
 * record them all.
 *
 * Loaded before all other libraries (LD_PRELOAD), it stands between libsqlite3, Python and the native core on one side
 * and the C library on the other. It is driven from Python by the three functions at its end; until `calls_watch` is
 * called it only passes on. Shared memory (-shm) is none of its business: it is not synced, and SQLite makes it anew.
 *
 * Kinds of calls: create (of a file that was not there), write, truncate, sync (of a file), folder (the sync of one),
 * rename, link, unlink. A write is also a "commit" if it puts the page behind a frame header that ends a transaction
 * into a write-ahead log (sqlite.org/fileformat2.html#wal_file_format: bytes 4 to 7 of the 24 are not zero), and the
 * sync that comes next is a "commit sync". These are the calls that the library makes; test_a_recording_tells_all fails
 * when it comes to make others.
 *
 * The log is a row of: kind, length of the path, inode, offset, length of the data, path, data. Replaying it needs no
 * file descriptors: an inode means the file that was last created with its number.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { CREATE, WRITE, TRUNCATE, SYNC, FOLDER, RENAME, LINK, UNLINK, MARK };
static const char *const kNames[] = {
    "create", "write", "truncate", "sync", "folder", "rename", "link", "unlink", "mark",
};
enum moment { BEFORE, AMID, AFTER };

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static char watched[PATH_MAX];  /* the folder; empty: nothing is watched */
static int log_file = -1;       /* where calls are recorded; -1: nowhere */

static struct {
    char kind[16], pattern[64]; /* "any" kind; the pattern is for the file's name */
    enum moment moment;
    long left; /* matching calls until the fatal one; 0: none */
    int report;
} fatal;

static int written_log = -1; /* the log that was last written to, and what was */
static enum { OTHER, ENDING_HEADER, ENDING_PAGE } last_written;

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

/* --- which calls are watched ------------------------------------------------------------------------------------ */

struct call {
    enum kind kind;
    int commit;
    char path[PATH_MAX];
    uint64_t inode, at, bytes;
    const void *data;
};

static int is_watched(const char *path) {
    const size_t length = strlen(watched), all = strlen(path);
    if (length == 0 || strncmp(path, watched, length) != 0 || (path[length] != '/' && path[length] != '\0')) return 0;
    return all < 4 || strcmp(path + all - 4, "-shm") != 0;
}

static int by_path(struct call *call, enum kind kind, const char *path) {
    if (!is_watched(path)) return 0;
    memset(call, 0, sizeof *call);
    call->kind = kind;
    strncpy(call->path, path, sizeof call->path - 1);
    return 1;
}

static int by_file(struct call *call, enum kind kind, int file) {
    char link[64], path[PATH_MAX];
    struct stat about;
    if (watched[0] == '\0') return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = '\0';
    if (fstat(file, &about) != 0 || !by_path(call, kind, path)) return 0;
    call->inode = about.st_ino;
    if (S_ISDIR(about.st_mode)) call->kind = FOLDER;
    return 1;
}

/* --- what is done about them ------------------------------------------------------------------------------------ */

static void record(const struct call *call) {
    if (log_file < 0) return;
    const uint64_t header[5] = {call->kind, strlen(call->path), call->inode, call->at, call->bytes};
    syscall(SYS_write, log_file, header, sizeof header);
    syscall(SYS_write, log_file, call->path, strlen(call->path));
    for (size_t done = 0; call->data != NULL && done < call->bytes;) {
        done += (size_t)syscall(SYS_write, log_file, (const char *)call->data + done, call->bytes - done);
    }
}

static const char *name_of(const struct call *call) {
    if (!call->commit) return kNames[call->kind];
    return call->kind == SYNC ? "commit sync" : "commit";
}

static void die(const struct call *call) {
    char line[PATH_MAX + 64];
    const int length = snprintf(line, sizeof line, "{\"killed\": \"%s\", \"path\": \"%s\"}\n",
                                name_of(call), call->path);
    syscall(SYS_write, fatal.report, line, (size_t)length);
    kill(getpid(), SIGKILL);
    pause();
}

static int matches(const struct call *call) {
    const char *const slash = strrchr(call->path, '/');
    if (fatal.left == 0 || fnmatch(fatal.pattern, slash == NULL ? call->path : slash + 1, 0) != 0) return 0;
    if (strcmp(fatal.kind, "any") == 0 || strcmp(fatal.kind, kNames[call->kind]) == 0) return 1;
    return strcmp(fatal.kind, name_of(call)) == 0;
}

/* Before the call, which holds the lock until `end`. Returns whether it is the fatal one. */
static int begin(const struct call *call) {
    pthread_mutex_lock(&one_at_a_time);
    const int is_fatal = matches(call) && --fatal.left == 0;
    if (is_fatal && fatal.moment == BEFORE) die(call);
    return is_fatal;
}

static void end(const struct call *call, int is_fatal, int succeeded) {
    if (succeeded) record(call);
    if (is_fatal) die(call);
    pthread_mutex_unlock(&one_at_a_time);
}

/* --- writes ----------------------------------------------------------------------------------------------------- */

static int ends_transaction(int file, const void *data, size_t bytes, const char *path) {
    const char *const end = strrchr(path, '-');
    if (end == NULL || strcmp(end, "-wal") != 0) return 0;
    const int behind = written_log == file && last_written == ENDING_HEADER && bytes != 24;
    uint32_t pages = 0;
    if (bytes == 24) memcpy(&pages, (const char *)data + 4, sizeof pages);
    written_log = file;
    last_written = behind ? ENDING_PAGE : pages != 0 ? ENDING_HEADER : OTHER;
    return behind;
}

static int by_write(struct call *call, int file, const void *data, size_t bytes, off_t at) {
    if (!by_file(call, WRITE, file)) return 0;
    call->commit = ends_transaction(file, data, bytes, call->path);
    call->data = data;
    call->bytes = bytes;
    call->at = (uint64_t)at;
    return 1;
}

static ssize_t end_write(struct call *call, int is_fatal, ssize_t done) {
    if (done > 0) call->bytes = (uint64_t)done;
    end(call, is_fatal, done > 0);
    return done;
}

#define PWRITE(name)                                                                                  \
    ssize_t name(int file, const void *data, size_t bytes, off_t at) {                                \
        struct call call;                                                                             \
        if (!by_write(&call, file, data, bytes, at)) return REAL(name)(file, data, bytes, at);        \
        const int is_fatal = begin(&call);                                                            \
        const size_t some = is_fatal && fatal.moment == AMID ? bytes / 2 : bytes;                     \
        return end_write(&call, is_fatal, REAL(name)(file, data, some, at));                          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int file, const void *data, size_t bytes) {
    struct call call;
    struct stat about;
    if (!by_write(&call, file, data, bytes, 0)) return REAL(write)(file, data, bytes);
    const int is_fatal = begin(&call);
    const int appends = (fcntl(file, F_GETFL) & O_APPEND) != 0 && fstat(file, &about) == 0;
    call.at = (uint64_t)(appends ? about.st_size : lseek(file, 0, SEEK_CUR));
    const size_t some = is_fatal && fatal.moment == AMID ? bytes / 2 : bytes;
    return end_write(&call, is_fatal, REAL(write)(file, data, some));
}

#define FTRUNCATE(name)                                                      \
    int name(int file, off_t bytes) {                                        \
        struct call call;                                                    \
        if (!by_file(&call, TRUNCATE, file)) return REAL(name)(file, bytes); \
        call.at = (uint64_t)bytes;                                           \
        const int is_fatal = begin(&call);                                   \
        const int result = REAL(name)(file, bytes);                          \
        end(&call, is_fatal, result == 0);                                   \
        return result;                                                       \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define FSYNC(name)                                                                            \
    int name(int file) {                                                                       \
        struct call call;                                                                      \
        if (!by_file(&call, SYNC, file)) return REAL(name)(file);                              \
        call.commit = call.kind == SYNC && written_log == file && last_written == ENDING_PAGE; \
        const int is_fatal = begin(&call);                                                     \
        const int result = REAL(name)(file);                                                   \
        end(&call, is_fatal, result == 0);                                                     \
        return result;                                                                         \
    }
FSYNC(fsync)
FSYNC(fdatasync)

/* --- names ------------------------------------------------------------------------------------------------------ */

/* The file may be made by that. One that was there and is emptied is a truncate. */
#define OPEN(name)                                                                                  \
    int name(const char *path, int flags, ...) {                                                    \
        va_list more;                                                                               \
        va_start(more, flags);                                                                      \
        const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                             \
        va_end(more);                                                                               \
        struct call call;                                                                           \
        struct stat about;                                                                          \
        if (!(flags & (O_CREAT | O_TRUNC))) return REAL(name)(path, flags, mode);                   \
        const int was_there = stat(path, &about) == 0;                                              \
        const int changes = !was_there || flags & O_TRUNC;                                          \
        if (!changes || !by_path(&call, was_there ? TRUNCATE : CREATE, path)) return REAL(name)(path, flags, mode); \
        const int is_fatal = begin(&call);                                                          \
        const int result = REAL(name)(path, flags, mode);                                           \
        if (result >= 0 && fstat(result, &about) == 0) call.inode = about.st_ino;                   \
        end(&call, is_fatal, result >= 0);                                                          \
        return result;                                                                              \
    }
OPEN(open)
OPEN(open64)

/* The path of such a call is where something changes; where it comes from stands as data. */
#define FROM_TO(name, kind)                                           \
    int name(const char *from, const char *to) {                      \
        struct call call;                                             \
        if (!by_path(&call, kind, to)) return REAL(name)(from, to);   \
        call.data = from;                                             \
        call.bytes = strlen(from);                                    \
        const int is_fatal = begin(&call);                            \
        const int result = REAL(name)(from, to);                      \
        end(&call, is_fatal, result == 0);                            \
        return result;                                                \
    }
FROM_TO(rename, RENAME)
FROM_TO(link, LINK)

#define UNLINK_BY(name)                                             \
    int name(const char *path) {                                    \
        struct call call;                                           \
        if (!by_path(&call, UNLINK, path)) return REAL(name)(path); \
        const int is_fatal = begin(&call);                          \
        const int result = REAL(name)(path);                        \
        end(&call, is_fatal, result == 0);                          \
        return result;                                              \
    }
UNLINK_BY(unlink)
UNLINK_BY(remove)

/* --- for Python ------------------------------------------------------------------------------------------------- */

/* Watch `folder`, and record its calls in the file `log` unless that is NULL. */
void calls_watch(const char *folder, const char *log) {
    strncpy(watched, folder, sizeof watched - 1);
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    if (log != NULL) log_file = (int)syscall(SYS_openat, AT_FDCWD, log, flags, 0644);
}

/* End the process at the `nth` call from now of this kind on a name like `pattern`; say so on `report` first. */
void calls_kill(const char *kind, const char *pattern, int moment, long nth, int report) {
    pthread_mutex_lock(&one_at_a_time);
    strncpy(fatal.kind, kind, sizeof fatal.kind - 1);
    strncpy(fatal.pattern, pattern, sizeof fatal.pattern - 1);
    fatal.moment = (enum moment)moment;
    fatal.report = report;
    fatal.left = nth;
    pthread_mutex_unlock(&one_at_a_time);
}

/* Put a text into the log, between the calls before it and after it. */
void calls_mark(const char *text) {
    struct call call = {.kind = MARK, .data = text, .bytes = strlen(text)};
    pthread_mutex_lock(&one_at_a_time);
    record(&call);
    pthread_mutex_unlock(&one_at_a_time);
}
