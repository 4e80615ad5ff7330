/* How mimalloc is set up. It can be told by C only, or by the environment, which still decides where it says something. */

#include <mimalloc.h>

/* Pages that become free go back to the system at once. Usually they wait for 10 ms, and then for somebody to take memory
 * near them, which may be never: most of what thousands of streams took stayed after they had ended. */
__attribute__((constructor)) static void give_back_at_once(void) {
    mi_option_set_default(mi_option_purge_delay, 0);
}
