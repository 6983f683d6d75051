"""What an application does in a day, with room for ten tasks."""
import json

from django.core.management.base import BaseCommand
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, F, Sum

from tracker.models import Project, Task


class Undone(Exception):
    pass


def refused(write):
    """Runs a write that must be refused for its quota, and returns the refusal's details."""
    try:
        write()
    except DatabaseError as error:
        cause = error.__cause__
        assert cause.sqlstate == "53400", cause
        assert cause.diag.message_primary.startswith("pgcordon: quota exceeded"), cause
        return json.loads(cause.diag.message_detail)
    raise AssertionError("a write beyond the quota went through")


def tasks(project, *titles):
    return [Task(project=project, title=title) for title in titles]


class Command(BaseCommand):
    def handle(self, **options):
        assert Project.objects.count() == 0 and Task.objects.count() == 0
        # Create, read, update, delete.
        project = Project.objects.create(name="first", settings={"color": "red"})
        task = Task.objects.create(project=project, title="one")
        task.points = F("points") + 2
        task.save()
        task.refresh_from_db()
        assert task.points == 3
        assert Project.objects.get(settings__color="red") == project
        doomed = Task.objects.create(project=project, title="doomed")
        assert doomed.delete()[0] == 1
        # Many at once.
        Task.objects.bulk_create(tasks(project, "two", "three", "four"))
        assert Task.objects.filter(title__in=["two", "three"]).update(done=True) == 2
        Task.objects.bulk_update([Task(id=task.id, points=5)], ["points"])
        # Upserts.
        assert Task.objects.update_or_create(project=project, title="two", defaults={"points": 7})[1] is False
        assert Task.objects.get_or_create(project=project, title="five")[1] is True
        Task.objects.bulk_create(
            tasks(project, "one", "six"), update_conflicts=True, update_fields=["done"], unique_fields=["project", "title"]
        )
        assert Task.objects.bulk_create(tasks(project, "one"), ignore_conflicts=True)
        assert Task.objects.count() == 6
        # Transactions in transactions.
        with transaction.atomic():
            Task.objects.create(project=project, title="seven")
            try:
                with transaction.atomic():
                    Task.objects.create(project=project, title="undone")
                    raise Undone
            except Undone:
                pass
            with transaction.atomic():
                Task.objects.create(project=project, title="eight")
        try:
            with transaction.atomic():
                Task.objects.bulk_create(tasks(project, "gone", "gone too"))
                raise Undone
        except Undone:
            pass
        with transaction.atomic():
            locked = Task.objects.select_for_update().get(title="one")
            locked.points += 1
            locked.save()
        try:
            with transaction.atomic():
                Task.objects.create(project=project, title="one")
            raise AssertionError("a duplicate went through")
        except DatabaseError as error:
            assert error.__cause__.sqlstate == "23505", error
        # Reading in portions, by a cursor on the server.
        assert sum(1 for _ in Task.objects.iterator(chunk_size=3)) == 8
        with transaction.atomic():
            for number, each in enumerate(Task.objects.order_by("id").iterator(chunk_size=2)):
                Task.objects.filter(id=each.id).update(points=number)
        assert Task.objects.aggregate(Sum("points"))["points__sum"] == sum(range(8))
        counted = Project.objects.annotate(tasks=Count("task")).get()
        assert counted.tasks == 8 and counted == Project.objects.prefetch_related("task_set").get()

        # There is room for ten. A refusal is an error as any other, and what was done before it in the block can be kept.
        detail = refused(lambda: Task.objects.bulk_create(tasks(project, "a", "b", "c")))
        assert detail["resourceType"] == "tasks" and (detail["currentUsage"], detail["limit"]) == (8, 10), detail
        with transaction.atomic():
            Task.objects.create(project=project, title="nine")
            with_room = lambda: Task.objects.create(project=project, title="ten")
            with_room()

            def beyond():
                with transaction.atomic():
                    Task.objects.create(project=project, title="eleven")

            refused(beyond)
            assert Task.objects.count() == 10
        assert connection.get_autocommit() and Task.objects.count() == 10

        def block():
            with transaction.atomic():
                Project.objects.create(name="undone with it")
                Task.objects.create(project=project, title="eleven")

        refused(block)
        assert Project.objects.count() == 1
        refused(lambda: Task.objects.get_or_create(project=project, title="eleven"))
        # When it is full, what is there can still be written, and what is deleted makes room at once.
        Task.objects.update_or_create(project=project, title="ten", defaults={"points": 100})
        Task.objects.bulk_create(
            tasks(project, "ten"), update_conflicts=True, update_fields=["done"], unique_fields=["project", "title"]
        )
        with transaction.atomic():
            Task.objects.filter(title="ten").delete()
            Task.objects.create(project=project, title="in its place")
        Task.objects.filter(title__in=["one", "two"]).delete()
        Task.objects.bulk_create(tasks(project, "eleven", "twelve"))
        refused(lambda: Task.objects.create(project=project, title="thirteen"))
        assert Task.objects.count() == 10
        project.delete()
        assert Task.objects.count() == 0
        self.stdout.write("all good")
