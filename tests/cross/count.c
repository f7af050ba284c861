/* A plugin of QEMU 7.2 that counts the instructions a program runs, with those of its threads and of the processes it forks:
   qemu-ARCH -plugin count.so,into=FILE PROGRAM. FILE holds the count, a 64-bit number, at all times. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What it uses of QEMU's interface for plugins, version 1. Debian has no header of it. */
struct qemu_plugin_tb;
typedef void (*on_translate)(uint64_t id, struct qemu_plugin_tb *block);
typedef void (*on_run)(unsigned int cpu, void *argument);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, on_translate act);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, on_run act, int registers, void *argument);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* Shared with the children and with who reads FILE. */
static uint64_t *count;

static void run(unsigned int cpu, void *instructions)
{
    (void)cpu;
    __atomic_fetch_add(count, (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void translate(uint64_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, run, 0, (void *)qemu_plugin_tb_n_insns(block));
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "into=", 5) != 0)
        return -1;
    int file = open(argv[0] + 5, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0 || ftruncate(file, sizeof *count) != 0)
        return -1;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (count == MAP_FAILED)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
