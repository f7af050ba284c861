/* What Debian's libgcc_eh asks of glibc 2.35 and later, for a static program with musl: where the tables for unwinding are.
   There is one object, the program itself. */
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* As in glibc's dlfcn.h for processors of 64 bits. The caller has it on its stack. */
struct dl_find_object {
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *eh_frame;
    unsigned long long reserved[7];
};

/* libgcc_eh takes it that every program has these, as with glibc, but does not make the linker add them. */
__attribute__((used)) static void *const wanted[] = {pthread_once, pthread_mutex_lock, pthread_mutex_unlock, pthread_key_create,
                                                     pthread_getspecific, pthread_setspecific};

struct search {
    uintptr_t pc;
    struct dl_find_object *found;
};

static int look(struct dl_phdr_info *object, size_t size, void *argument)
{
    struct search *search = argument;
    int is_within = 0;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && search->pc - start < part->p_memsz) {
            is_within = 1;
            search->found->start = (void *)start;
            search->found->end = (void *)(start + part->p_memsz);
        } else if (part->p_type == PT_GNU_EH_FRAME) {
            search->found->eh_frame = (void *)start;
        }
    }
    return is_within && search->found->eh_frame != NULL;
}

/* 0 if it has found the tables for the code at pc, else -1. */
int _dl_find_object(void *pc, struct dl_find_object *found)
{
    struct search search = {(uintptr_t)pc, found};
    memset(found, 0, sizeof *found);
    return dl_iterate_phdr(look, &search) ? 0 : -1;
}
