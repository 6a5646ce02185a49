/*
 * What a program sees from inside its container, as one JSON object on stdout. Static, no arguments: everything.
 * With arguments: `probe stat PATH...`, `probe write PATH...` (errno of an open for writing), `probe wait FILE`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static const char *comma = "";

static void text(const char *s)
{
    putchar('"');
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < ' ')
            printf("\\u%04x", *s);
        else
            putchar(*s);
    putchar('"');
}

static void key(const char *name)
{
    printf("%s\n", comma);
    text(name);
    putchar(':');
    comma = ",";
}

static void number(const char *name, long long value)
{
    key(name);
    printf("%lld", value);
}

static void string(const char *name, const char *value)
{
    key(name);
    text(value);
}

static void open_object(const char *name, char sign)
{
    key(name);
    putchar(sign);
    comma = "";
}

static void close_object(char sign)
{
    putchar(sign);
    comma = ",";
}

/* A file's content with the last newline cut off and blanks squeezed; null where it cannot be read. */
static void content(const char *name, const char *path)
{
    char buffer[8192], out[8192];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer - 1);

    if (fd >= 0)
        close(fd);
    key(name);
    if (n < 0) {
        printf("null");
        return;
    }
    char *to = out;
    for (char *at = buffer; at < buffer + n; at++)
        if ((*at != ' ' && *at != '\t') || (to > out && to[-1] != ' ' && to[-1] != '\n'))
            *to++ = *at == '\t' ? ' ' : *at;
    while (to > out && (to[-1] == '\n' || to[-1] == ' '))
        to--;
    *to = 0;
    text(out);
}

static void identity(void)
{
    gid_t groups[256];
    int count = getgroups(256, groups);
    mode_t mask = umask(0);
    char path[4096];

    umask(mask);
    number("uid", getuid());
    number("gid", getgid());
    open_object("groups", '[');
    for (int i = 0; i < count; i++, comma = ",")
        printf("%s%u", comma, groups[i]);
    close_object(']');
    number("umask", mask);
    string("cwd", getcwd(path, sizeof path) ? path : strerror(errno));
    number("pid", getpid());
    number("sid", getsid(0));
    content("uidMap", "/proc/self/uid_map");
    content("gidMap", "/proc/self/gid_map");
    content("setgroups", "/proc/self/setgroups");
    content("oomScoreAdj", "/proc/self/oom_score_adj");
    content("cgroup", "/proc/self/cgroup");
    content("label", "/proc/self/attr/current");
    number("personality", personality(0xffffffff));
}

static void status(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[1024];

    open_object("status", '{');
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || !(strncmp(line, "Cap", 3) == 0 || strncmp(line, "NoNew", 5) == 0 || strncmp(line, "Sec", 3) == 0 ||
                        strncmp(line, "Sig", 3) == 0 || strncmp(line, "Cpus_allowed_l", 14) == 0 ||
                        strncmp(line, "Mems_allowed_l", 14) == 0))
            continue;
        *colon = 0;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        string(line, value);
    }
    if (file)
        fclose(file);
    close_object('}');
}

static void uts(void)
{
    struct utsname name;

    uname(&name);
    string("hostname", name.nodename);
    string("domainname", name.domainname);
    string("machine", name.machine);
}

static void scheduling(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof attr};
    int mode = -1;
    unsigned long nodes[16] = {0};

    syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0);
    open_object("scheduler", '{');
    number("policy", attr.policy);
    number("flags", (long long)attr.flags);
    number("nice", attr.nice);
    number("priority", attr.priority);
    number("runtime", (long long)attr.runtime);
    close_object('}');
    number("ioprio", syscall(SYS_ioprio_get, 1, 0));
    syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, 0, 0);
    number("memoryPolicy", mode);
    number("memoryNodes", (long long)nodes[0]);
}

static void limits(void)
{
    static const char *const names[] = {"cpu",   "fsize",   "data", "stack", "core",       "rss",      "nproc", "nofile",
                                        "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    open_object("rlimits", '{');
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;
        getrlimit((__rlimit_resource_t)i, &limit);
        key(names[i]);
        printf("[%lld,%lld]", (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
    close_object('}');
}

static void namespaces(void)
{
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    open_object("namespaces", '{');
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        if (readlink(path, target, sizeof target - 1) > 0)
            string(names[i], target);
    }
    close_object('}');
}

static void clocks(void)
{
    struct timespec monotonic, boot;

    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    number("monotonic", monotonic.tv_sec);
    number("boottime", boot.tv_sec);
    content("timeOffsets", "/proc/self/timens_offsets");
}

/* mountinfo by mount point; of several mounts on one point the last. {id,root,options,tags,type,source,super} */
static void mounts(void)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[4096];

    open_object("mounts", '[');
    while (file && fgets(line, sizeof line, file)) {
        char *fields[32];
        int count = 0, dash = 0;
        for (char *token = strtok(line, " \n"); token && count < 32; token = strtok(NULL, " \n")) {
            if (strcmp(token, "-") == 0 && !dash)
                dash = count;
            fields[count++] = token;
        }
        if (!dash || count < dash + 3)
            continue;
        printf("%s\n{", comma);
        comma = "";
        string("point", fields[4]);
        string("root", fields[3]);
        string("options", fields[5]);
        char tags[256] = "";
        for (int i = 6; i < dash; i++)
            snprintf(tags + strlen(tags), sizeof tags - strlen(tags), "%s%s", *tags ? " " : "", fields[i]);
        string("tags", tags);
        string("type", fields[dash + 1]);
        string("source", fields[dash + 2]);
        string("super", count > dash + 3 ? fields[dash + 3] : "");
        close_object('}');
    }
    if (file)
        fclose(file);
    close_object(']');
}

static void devices(void)
{
    DIR *dev = opendir("/dev");
    open_object("dev", '{');
    for (struct dirent *entry; dev && (entry = readdir(dev));) {
        struct stat st;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dev), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        key(entry->d_name);
        if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
            printf("\"%c %u:%u %o %u:%u\"", S_ISCHR(st.st_mode) ? 'c' : 'b', major(st.st_rdev), minor(st.st_rdev),
                   st.st_mode & 07777, st.st_uid, st.st_gid);
        else
            printf("\"%c\"", S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' : S_ISFIFO(st.st_mode) ? 'p' : '-');
    }
    if (dev)
        closedir(dev);
    close_object('}');
}

static void descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    open_object("fds", '[');
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(folder)) {
            printf("%s%s", comma, entry->d_name);
            comma = ",";
        }
    if (folder)
        closedir(folder);
    close_object(']');
}

static void network(void)
{
    struct if_nameindex *all = if_nameindex();
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    open_object("net", '{');
    for (struct if_nameindex *one = all; one && one->if_name; one++) {
        struct ifreq request = {0};
        strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
        ioctl(fd, SIOCGIFFLAGS, &request);
        string(one->if_name, request.ifr_flags & IFF_UP ? "up" : "down");
    }
    close_object('}');
    if (fd >= 0)
        close(fd);
}

static void stat_path(const char *path)
{
    struct stat st;
    struct statfs fs;

    open_object(path, '{');
    if (stat(path, &st) != 0) {
        string("error", strerrorname_np(errno));
    } else {
        string("type", S_ISDIR(st.st_mode)   ? "folder"
                       : S_ISREG(st.st_mode) ? "file"
                       : S_ISCHR(st.st_mode) ? "char"
                       : S_ISBLK(st.st_mode) ? "block"
                                             : "other");
        char mode[8];
        snprintf(mode, sizeof mode, "%o", st.st_mode & 07777);
        string("mode", mode);
        number("uid", st.st_uid);
        number("gid", st.st_gid);
        number("size", st.st_size);
        if (statfs(path, &fs) == 0) {
            char magic[32];
            snprintf(magic, sizeof magic, "%lx", (unsigned long)fs.f_type);
            string("filesystem", magic);
        }
        char label[256] = "";
        if (getxattr(path, "security.selinux", label, sizeof label - 1) > 0)
            string("label", label);
    }
    close_object('}');
}

/* Folders: a file is made in them and removed. */
static void write_path(const char *path)
{
    char name[4096];
    struct stat st;
    int folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

    snprintf(name, sizeof name, folder ? "%s/.probe" : "%s", path);
    int fd = open(name, folder ? O_WRONLY | O_CREAT : O_WRONLY, 0600);
    string(path, fd < 0 ? strerrorname_np(errno) : "ok");
    if (fd >= 0)
        close(fd);
    if (folder && fd >= 0)
        unlink(name);
}

int main(int argc, char **argv)
{
    extern char **environ;

    if (argc > 2 && strcmp(argv[1], "wait") == 0) {
        while (access(argv[2], F_OK) != 0)
            usleep(1000);
        argc = 1;
    }
    printf("{");
    if (argc > 1 && strcmp(argv[1], "stat") == 0) {
        for (int i = 2; i < argc; i++)
            stat_path(argv[i]);
    } else if (argc > 1 && strcmp(argv[1], "write") == 0) {
        for (int i = 2; i < argc; i++)
            write_path(argv[i]);
    } else {
        descriptors();
        identity();
        status();
        uts();
        scheduling();
        limits();
        namespaces();
        clocks();
        mounts();
        devices();
        network();
        open_object("args", '[');
        for (int i = 0; i < argc; i++, comma = ",") {
            printf("%s", comma);
            text(argv[i]);
        }
        close_object(']');
        open_object("env", '{');
        for (char **entry = environ; *entry; entry++) {
            char *equals = strchr(*entry, '=');
            if (!equals)
                continue;
            char *name = strndup(*entry, (size_t)(equals - *entry));
            string(name, equals + 1);
            free(name);
        }
        close_object('}');
    }
    printf("\n}\n");
    return 0;
}
