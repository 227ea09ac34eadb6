/* base/task.c: order, reuse, and many senders at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/alloc.h"
#include "base/task.h"

struct letter {
    struct kt_task task;
    int number;
};

static int received[8], received_count, wakes;

static void count_wake(void *data)
{
    (*(int *)data)++;
}

static void receive(struct kt_task *task)
{
    struct letter *letter = KT_CONTAINER(task, struct letter, task);
    received[received_count++] = letter->number;
}

static void receive_and_free(struct kt_task *task)
{
    receive(task);
    kt_free(KT_CONTAINER(task, struct letter, task));
}

static void mailbox__posts__run_in_order_after_one_wake(void **state)
{
    (void)state;
    struct kt_mailbox mailbox;
    struct letter letters[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    received_count = wakes = 0;
    kt_mailbox_init(&mailbox, count_wake, &wakes);
    assert_int_equal(kt_mailbox_drain(&mailbox), 0);
    for (size_t i = 0; i < KT_COUNT(letters); i++)
        kt_mailbox_post(&mailbox, &letters[i].task, receive);
    assert_int_equal(wakes, 1);
    assert_int_equal(received_count, 0);
    assert_int_equal(kt_mailbox_drain(&mailbox), 3);
    assert_memory_equal(received, ((int[]){1, 2, 3}), 3 * sizeof(int));
    kt_mailbox_post(&mailbox, &letters[0].task, receive);
    assert_int_equal(wakes, 2);
    assert_int_equal(kt_mailbox_drain(&mailbox), 1);
    assert_int_equal(kt_mailbox_drain(&mailbox), 0);
    kt_mailbox_release(&mailbox);
}

static void mailbox__task_freed_by_its_run__is_not_touched_again(void **state)
{
    (void)state;
    struct kt_mailbox mailbox;
    received_count = 0;
    kt_mailbox_init(&mailbox, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        struct letter *letter = kt_alloc(sizeof(*letter));
        letter->number = i;
        kt_mailbox_post(&mailbox, &letter->task, receive_and_free);
    }
    assert_int_equal(kt_mailbox_drain(&mailbox), 3);
    assert_memory_equal(received, ((int[]){0, 1, 2}), 3 * sizeof(int));
    kt_mailbox_release(&mailbox);
}

static struct kt_mailbox *own_mailbox;

static void receive_and_post_again(struct kt_task *task)
{
    receive(task);
    if (received_count < 3)
        kt_mailbox_post(own_mailbox, task, receive_and_post_again);
}

/* Else a task that posts itself would keep its thread from anything else. */
static void mailbox__posting_while_draining__waits_for_the_next_drain(void **state)
{
    (void)state;
    struct kt_mailbox mailbox;
    struct letter letter = {.number = 5};
    received_count = wakes = 0;
    own_mailbox = &mailbox;
    kt_mailbox_init(&mailbox, count_wake, &wakes);
    kt_mailbox_post(&mailbox, &letter.task, receive_and_post_again);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(kt_mailbox_drain(&mailbox), 1);
        assert_int_equal(received_count, i);
    }
    assert_int_equal(kt_mailbox_drain(&mailbox), 0);
    assert_int_equal(wakes, 3);
    kt_mailbox_release(&mailbox);
}

enum { SENDERS = 4, POSTS = 5000 };

struct parcel {
    struct kt_task task;
    int sender, number;
};

struct office {
    struct kt_mailbox mailbox;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool awake;
};

struct sender {
    struct office *office;
    struct parcel *parcels;
};

static int next_of[SENDERS];

static void receive_parcel(struct kt_task *task)
{
    struct parcel *parcel = KT_CONTAINER(task, struct parcel, task);
    assert_int_equal(parcel->number, next_of[parcel->sender]);
    next_of[parcel->sender]++;
}

static void office_wake(void *data)
{
    struct office *office = data;
    pthread_mutex_lock(&office->lock);
    office->awake = true;
    pthread_cond_signal(&office->woken);
    pthread_mutex_unlock(&office->lock);
}

static void *send_all(void *data)
{
    struct sender *sender = data;
    for (int i = 0; i < POSTS; i++)
        kt_mailbox_post(&sender->office->mailbox, &sender->parcels[i].task, receive_parcel);
    return NULL;
}

/* The receiver sleeps until it is woken: a lost wake would hang this test. */
static void mailbox__many_senders__loses_nothing_and_keeps_each_order(void **state)
{
    (void)state;
    struct office office = {.awake = false};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    pthread_mutex_init(&office.lock, NULL);
    pthread_cond_init(&office.woken, NULL);
    kt_mailbox_init(&office.mailbox, office_wake, &office);
    for (int s = 0; s < SENDERS; s++) {
        senders[s] = (struct sender){.office = &office, .parcels = kt_zalloc(POSTS * sizeof(struct parcel))};
        for (int i = 0; i < POSTS; i++)
            senders[s].parcels[i] = (struct parcel){.sender = s, .number = i};
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &senders[s]), 0);
    }
    for (size_t got = 0; got < (size_t)SENDERS * POSTS;) {
        pthread_mutex_lock(&office.lock);
        while (!office.awake)
            pthread_cond_wait(&office.woken, &office.lock);
        office.awake = false;
        pthread_mutex_unlock(&office.lock);
        got += kt_mailbox_drain(&office.mailbox);
    }
    for (int s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
        assert_int_equal(next_of[s], POSTS);
        kt_free(senders[s].parcels);
    }
    kt_mailbox_release(&office.mailbox);
    pthread_cond_destroy(&office.woken);
    pthread_mutex_destroy(&office.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailbox__posts__run_in_order_after_one_wake),
        cmocka_unit_test(mailbox__task_freed_by_its_run__is_not_touched_again),
        cmocka_unit_test(mailbox__posting_while_draining__waits_for_the_next_drain),
        cmocka_unit_test(mailbox__many_senders__loses_nothing_and_keeps_each_order),
    };
    return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
