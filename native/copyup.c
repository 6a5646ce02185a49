/*
 * copyup: copies what is in the folder on descriptor 3 into the folder on descriptor 4.
 *
 * A tape executes it for the mount option tmpcopyup, as a tape has no loops. It runs inside the container's namespaces
 * before anything of the container does. Links are never followed. Ends with 0, else with the errno of what failed.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { FROM = 3, TO = 4, NAMES = 65536 };

static int check(long result)
{
    if (result < 0)
        _exit(errno);
    return (int)result;
}

/* A filesystem without such attributes has nothing to keep, or no place to keep it. */
static void copy_attributes(int from, int to)
{
    static char names[NAMES], value[NAMES];
    ssize_t length = flistxattr(from, names, sizeof names);
    for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t size = fgetxattr(from, name, value, sizeof value);
        if (size >= 0 && fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno == ENOSPC)
            _exit(ENOSPC);
    }
}

/* The owner first: a change of owner takes the set-id bits and file capabilities away. */
static void copy_state(int from, int to, const struct stat *st)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    check(fchown(to, st->st_uid, st->st_gid));
    copy_attributes(from, to);
    check(fchmod(to, st->st_mode & 07777));
    check(futimens(to, times));
}

static void copy_file(int from, int to)
{
    char buffer[65536];
    ssize_t n;
    while ((n = sendfile(to, from, NULL, 1 << 24)) > 0)
        ;
    if (n == 0)
        return;
    /* sendfile(2) does not read from every filesystem. */
    if (errno != EINVAL && errno != ENOSYS)
        _exit(errno);
    while ((n = check(read(from, buffer, sizeof buffer))) > 0)
        for (ssize_t done = 0; done < n;)
            done += check(write(to, buffer + done, (size_t)(n - done)));
}

static void copy_folder(int from, int to);

static void copy_entry(int from, int to, const char *name)
{
    struct stat st;
    check(fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW));
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) {
        int kind = S_ISDIR(st.st_mode) ? O_DIRECTORY : O_NONBLOCK;
        int source = check(openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind)), copy;
        if (S_ISDIR(st.st_mode)) {
            check(mkdirat(to, name, 0700));
            copy = check(openat(to, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_DIRECTORY));
            copy_folder(source, copy);
        } else {
            copy = check(openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
            copy_file(source, copy);
        }
        copy_state(source, copy, &st);
        close(source);
        close(copy);
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        char target[4096];
        ssize_t length = check(readlinkat(from, name, target, sizeof target - 1));
        target[length] = 0;
        check(symlinkat(target, to, name));
    } else {
        check(mknodat(to, name, st.st_mode, st.st_rdev));
        check(fchmodat(to, name, st.st_mode & 07777, 0));
    }
    check(fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW));
}

static void copy_folder(int from, int to)
{
    DIR *folder = fdopendir(check(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    if (!folder)
        _exit(errno);
    for (struct dirent *entry; errno = 0, entry = readdir(folder);)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            copy_entry(from, to, entry->d_name);
    if (errno)
        _exit(errno);
    closedir(folder);
}

int main(void)
{
    struct stat st;
    /* It has the rights of the set-up: nothing in a shared pid namespace may look into it. */
    check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    umask(0);
    copy_folder(FROM, TO);
    check(fstat(FROM, &st));
    int to = check(openat(TO, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    check(fchown(to, st.st_uid, st.st_gid));
    copy_attributes(FROM, to);
    return 0;
}
