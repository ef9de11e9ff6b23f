/* Between the program and the system: while the file that REFUSES names is there, nothing is written to a
 * regular file and none is opened to be written, and the system's error is the number in that file. What is
 * mapped into memory can be written, as on a file system that turned read-only. Never touches sockets and pipes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int refusal(void)
{
    const char *path = getenv("REFUSES");
    char text[16] = {0};
    int file = path ? REAL(open)(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    return size > 0 ? atoi(text) : 0;
}

static int refused(int file)
{
    struct stat is;
    int before = errno, number = fstat(file, &is) == 0 && S_ISREG(is.st_mode) ? refusal() : 0;
    errno = number ? number : before;
    return number;
}

static int refused_open(int flags)
{
    int before = errno, number = (flags & O_ACCMODE) == O_RDONLY ? 0 : refusal();
    errno = number ? number : before;
    return number;
}

#define ON_FILE(type, name, given, passed)             \
    type name given                                    \
    {                                                  \
        return refused(file) ? -1 : REAL(name) passed; \
    }

ON_FILE(ssize_t, write, (int file, const void *from, size_t size), (file, from, size))
ON_FILE(ssize_t, pwrite, (int file, const void *from, size_t size, off_t at), (file, from, size, at))
ON_FILE(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at), (file, from, size, at))
ON_FILE(int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))

#define ON_PATH(name)                                                \
    int name(const char *path, int flags, ...)                       \
    {                                                                \
        va_list more;                                                \
        va_start(more, flags);                                       \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0;          \
        va_end(more);                                                \
        return refused_open(flags) ? -1 : REAL(name)(path, flags, mode); \
    }

ON_PATH(open)
ON_PATH(open64)
